/** The guard's script, for any POSIX shell. */
import { fileName, socketName } from "../../../transports/private_socket.ts";

/**
 * The script reads orders from file descriptor 3:
 *
 * - "+" adds a ward, "-" removes it.
 * - "k" kills all processes of some families. An empty line acknowledges it.
 * - "q" ends the guard.
 *
 * The end of the orders without "q" means that the server is gone. The guard then waits a moment, in which a program whose
 * event loop is not blocked ends by itself, and kills all wards. After that it removes the private directories of the server,
 * whose names begin with the arguments of the script. It removes a directory only if its name, type, owner, mode and contents
 * are those that the server makes, as the server does itself.
 *
 * One grep process reads the environments of all processes. The variables in them end with NUL bytes. GNU grep needs -z for
 * that. BusyBox has no -z in most builds, but treats a NUL byte as the end of a line anyway. The guard finds out which of the
 * two works by a search in the environment of grep itself. A guard without a working grep writes "x".
 *
 * During an exec, a process has no environment for a moment, and a search may miss it. So the search for a family ends only
 * after two searches in a row that found no process of it, with no process without an environment at the time.
 *
 * A pid that now belongs to another process is left alone: the start time tells the two apart. Without /proc there is no start
 * time, and the pid alone decides. The id of a process group is not reused while the group has a process.
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
