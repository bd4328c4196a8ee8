# The first process of a lab of cluster nodes, in PID, mount and network namespaces of its own (see three_nodes.ts). Its network
# holds the switch; each node is one more network namespace with a /run and a /dev/shm of its own. It does the lines that
# come on standard input, and answers each with its status; at the end of the input it ends, and the kernel all else with it.
# usage: sh three_nodes.sh DIRECTORY COUNT

directory=$1
set -e
ip link add sw type bridge
ip link set sw up
for node in $(seq "$2"); do
	mkfifo "$directory/up$node"
	unshare --mount --net sh -c '
		mount -t tmpfs none /run && mkdir /run/state && mount -t tmpfs none /dev/shm && ip link set lo up &&
			echo up >"$0" && exec sleep infinity' "$directory/up$node" &
	eval "node$node=$!"
	read -r _ <"$directory/up$node"
	ip link add "port$node" type veth peer name eth0 netns "$!"
	ip link set "port$node" master sw up
	nsenter -t "$!" -n sh -c "ip addr add 10.77.0.$node/24 dev eth0 && ip link set eth0 up"
done
set +e

# within NODE COMMAND…
within() {
	eval "set -- \$node$*"
	target=$1
	shift
	nsenter -t "$target" -m -n "$@"
}
boot() {
	eval "target=\$node$1"
	nsenter -t "$target" -m -n corosync -f -c "$directory/corosync.conf" >>"$directory/daemon$1.log" 2>&1 &
	eval "daemon$1=$!"
}
# signal NAME NODE
signal() {
	eval "kill -$1 \$daemon$2"
}
crash() {
	signal KILL "$1"
	eval "wait \$daemon$1" 2>/dev/null
	true
}
part() {
	case $2 in
	silent) ip link set "port$1" nomaster ;;
	down) ip link set "port$1" down ;;
	esac
}
heal() {
	ip link set "port$1" up && ip link set "port$1" master sw
}

echo "$node1 $node2 $node3"
while read -r line; do
	$line
	echo "$?"
done
