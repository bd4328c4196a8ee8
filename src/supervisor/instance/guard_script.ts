/** The program of the guard, for any POSIX shell. */
import { fileName, socketName } from "../../../transports/private_socket.ts";

/**
 * Reads orders from descriptor 3:
 *
 * - "+" and "-" a ward;
 * - "k" kills what families have left behind, and is acknowledged by an empty line;
 * - "q" ends the guard.
 *
 * When the orders end without "q", the server is gone. The guard waits a moment, in which a program that is not blocked ends by
 * itself, and kills all wards. Then it removes the private directories of the server, whose names begin with the arguments. Like
 * the server, it leaves a directory alone if its name, its type, owner and mode, or anything in it differs from what the server
 * makes.
 *
 * grep reads all environments, in one process. The variables in them end with NUL bytes: GNU grep takes -z for that; BusyBox has
 * no -z in most builds, and takes a NUL byte for the end of a line anyway. The guard tries out on the environment of grep itself
 * which of the two holds. A guard that cannot look for families says so by "x".
 *
 * A process that becomes another program (exec) has no environment for a moment, and may have lost what was just read of its
 * old one. So a family is gone when two searches found nothing of it, and no process was in that moment between them.
 *
 * A number that another process has got meanwhile is left alone: processes are told apart by when they began (where there is
 * no /proc, by their number only). The number of a group stays taken while there is a process in it.
 */
export const guardScript: string = `
unset SAM_GUARD
printf sam-guard >/proc/self/comm
trap '' HUP INT TERM QUIT PIPE
for split in -z -s no; do
  [ "$(SAM_A= SAM_B= grep -csx $split -e 'SAM_[AB]=' /proc/self/environ)" != 2 ] || break
done
[ $split != no ] || printf x >&3
wards=
since() {
  since=gone
  [ -e /proc/self/stat ] || since=
  read -r stat <"/proc/$1/stat" || return
  set -- \${stat##*) }
  [ $# -gt 19 ] || return
  shift 19
  since=$1
}
unclear() {
  for each in $(grep -Ls $split . /proc/[0-9]*/environ); do
    [ ! -e "\${each%environ}exe" ] || return 0
  done
  return 1
}
family() {
  names=
  for each; do names="$names -e $each=1"; done
  [ -n "$names" ] && [ $split != no ] || return
  calm=
  for round in 1 2 3 4 5 6; do
    found=$(grep -lsx $split $names /proc/[0-9]*/environ)
    for each in $found; do each=\${each#/proc/}; kill -9 "\${each%/environ}"; done
    if [ -n "$found" ]; then calm=
    elif unclear; then calm=; sleep 0.01
    elif [ -n "$calm" ]; then return
    else calm=1
    fi
  done
}
while read -r order words; do
  case $order in
    +) since "\${words%%,*}"; wards="$wards $words,$since" ;;
    -) rest=; for each in $wards; do [ "\${each%,*}" = "$words" ] || rest="$rest $each"; done; wards=$rest ;;
    k) family $words; echo >&3 ;;
    q) exit ;;
  esac
done <&3
sleep 0.06 || sleep 1
for ward in $wards; do
  since "\${ward%%,*}"
  [ "$since" = gone ] || [ "$since" = "\${ward##*,}" ] || continue
  target=\${ward#*,}
  target=\${target%%,*}
  [ -z "$target" ] || kill -9 "$target"
done
families=
for ward in $wards; do ward=\${ward%,*}; families="$families \${ward##*,}"; done
family $families
for prefix; do
  for each in "$prefix"*; do
    case \${each#"$prefix"} in *[!0-9A-Za-z]*) continue ;; esac
    case $(ls -ld -- "$each") in drwx--[-S]---*) ;; *) continue ;; esac
    [ -O "$each" ] || continue
    for name in $(ls -A -- "$each"); do
      [ ! -L "$each/$name" ] || continue 2
      case $name in
        ${socketName}) [ -S "$each/$name" ] ;;
        ${fileName}) [ -f "$each/$name" ] ;;
        *) false ;;
      esac || continue 2
    done
    rm -f -- "$each/${socketName}" "$each/${fileName}"
    rmdir -- "$each"
  done
done
`;
