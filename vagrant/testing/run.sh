#!/usr/bin/env bash
# provision.sh and the units, run for real: on five containers with systemd as their first process, with the host names and
# addresses that Vagrant's machines have, on a docker daemon of its own. Virtual machines need a kernel that lends its CPU.
#
#   vagrant/testing/run.sh [FOLDER]    FOLDER has static binaries; without it they are built
# shellcheck disable=SC2016 # what is in single quotes is for the other machine
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
# shellcheck source=docker/testing/lib.sh
. docker/testing/lib.sh
need dockerd docker.io && need etcd etcd-server && need etcdctl etcd-client && need systemd-analyze systemd
need curl curl && need python3 python3 && need vagrant vagrant

finish() {
    local code=$?
    [ "$code" = 0 ] || for node in 0 1 2 3 4; do on "$node" journalctl --no-pager --lines 15 --unit "microservice-app@*" --unit etcd 2>/dev/null || true; done
    docker/testing/daemon stop "$work/daemon" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

say "files"
check "the archive is made" vagrant/package.sh "$@"
check "the Vagrantfile is valid" env VAGRANT_HOME="$work/vagrant" VAGRANT_CWD="$PWD/vagrant" vagrant validate --ignore-provider
# Where the units name them.
mkdir -p "$work/root/usr/local/bin" "$work/root/usr/bin"
cp vagrant/systemd/*.service "$work/"
sed -i "s|^ExecStart=[^ ]*|ExecStart=/bin/true|" "$work"/*.service
check "the units are valid" systemd-analyze verify "$work/etcd.service" "$work/microservice-app@feed.service"
for unit in microservice-app@.service etcd.service; do
    systemd-analyze security --offline=true --no-pager "vagrant/systemd/$unit" >"$work/security"
    exposure=$(tail -n 1 "$work/security" | grep -oE '[0-9]+\.[0-9]')
    check "$unit is exposed by $exposure of 10, less than 2" awk -v exposure="$exposure" 'BEGIN { exit !(exposure < 2) }'
done

say "machines"
environment=$(docker/testing/daemon start "$work/daemon")
eval "$environment"
docker/testing/image-from-packages node vagrant/testing/node systemd dbus bash dash coreutils util-linux sed grep mawk tar \
    gzip hostname diffutils procps init-system-helpers perl-base iproute2 curl etcd-server etcd-client
docker network create --subnet 192.168.50.0/24 --gateway 192.168.50.1 private >/dev/null
on() { local node=node-$1 && shift && docker exec "$node" "$@"; }
# systemd writes to its own hierarchy (cgroup v1) or to the one that there is (v2).
if [ -d /sys/fs/cgroup/systemd ]; then
    cgroups=(--volume /sys/fs/cgroup:/sys/fs/cgroup:rw --cgroupns host)
else
    cgroups=(--privileged --cgroupns private)
fi
boot() { # NODE
    docker run --detach --name "node-$1" --hostname "node-$1" --network private --ip "192.168.50.$((10 + $1))" \
        --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add SYS_PTRACE --security-opt seccomp=unconfined \
        --security-opt apparmor=unconfined --security-opt systempaths=unconfined "${cgroups[@]}" \
        --tmpfs /run --tmpfs /run/lock node >/dev/null
}
provision() { # NODE [NAME=VALUE...]
    local node=$1 && shift
    docker exec -i "$node" sh -c 'cat >/tmp/microservice-app.tar.gz' <vagrant/microservice-app.tar.gz
    docker exec -i --env LOCAL_IP="192.168.50.$((10 + ${node#node-}))" --env ETCD_ENDPOINT=http://192.168.50.10:2379 \
        ${1:+--env "$1"} "$node" bash -s <vagrant/provision.sh
}
for node in 0 1 2 3 4; do boot "$node"; done
booted() { on "$1" systemctl is-system-running; }
for node in 0 1 2 3 4; do eventually 60 "node-$node has booted" booted "$node"; done
for node in 0 1 2 3 4; do check "node-$node is provisioned" provision "node-$node"; done

say "the README"
http() { on 0 curl --silent --show-error --max-time 5 "$@"; }
url=http://192.168.50.14:8080 debug=http://192.168.50.14:6060
for service in feed profile topic; do eventually 10 "the gateway is connected to $service" connected "$debug" "$service" 1; done
check "the README's curls, from inside the network" transcript "$url"
check "node-4 runs apigateway" on 4 pgrep --exact apigateway
check "somebody who logs in knows where things are" same "192.168.50.12 http://192.168.50.10:2379" \
    "$(on 2 bash --login -c 'echo $LOCAL_IP $ETCD_ENDPOINT')"

say "a second feed, on node-2"
on 2 bash --login -c 'nohup feed -addr=$LOCAL_IP:8082 -etcd.addr=$ETCD_ENDPOINT 0<&- &>/dev/null &'
eventually 10 "by the original README's command, the gateway is connected to both" connected "$debug" feed 2
answered() { http "http://$1:6062/metrics" | grep -E '^rpc_server_duration_seconds_count\{.*method="GetFeeds".*\} [1-9]'; }
for _ in 1 2 3 4 5 6; do http "$url/api/feed/get_feeds?user_id=123&size=2" >/dev/null; done
check "the first answers reads" answered 192.168.50.11
check "the second answers reads" answered 192.168.50.12
on 2 pkill --exact feed
eventually 10 "it is stopped, the gateway knows" connected "$debug" feed 1
check "by the unit that every machine has" on 2 systemctl start microservice-app@feed
eventually 10 "the gateway is connected to both again" connected "$debug" feed 2
check "it is stopped" on 2 systemctl stop microservice-app@feed
check "and went by itself" same success "$(on 2 systemctl show --property Result --value microservice-app@feed)"
eventually 10 "the gateway knows" connected "$debug" feed 1

say "units"
pid() { on "$1" systemctl show --property MainPID --value "$2"; }
before=$(pid 1 microservice-app@feed)
check "provisioned again" provision node-1
check "nothing has been restarted, nothing had changed" same "$before" "$(pid 1 microservice-app@feed)"
check "provisioned with another store" provision node-1 STORE_URL=sqlite:/var/lib/microservice-app/feed/feed.db
check "feed has been restarted with it" on 1 sh -c "tr '\0' ' ' </proc/$(pid 1 microservice-app@feed)/cmdline | grep sqlite:"
eventually 10 "the gateway is connected to it" connected "$debug" feed 1
check "the README's curls" transcript "$url"
on 1 kill -9 "$(pid 1 microservice-app@feed)"
eventually 10 "feed is killed and started again" on 1 systemctl is-active microservice-app@feed
eventually 10 "the gateway is connected to it" connected "$debug" feed 1
check "the records are there" feeds "$url"
check "node-1 is switched off and on" docker restart --time 30 node-1
eventually 60 "feed has come up by itself" connected "$debug" feed 1
check "the records are there after that, too" feeds "$url"
hardened() { # NODE UNIT: what the kernel says of the running process
    on "$1" sh -c "grep -E '^(CapEff:.0+|NoNewPrivs:.1|Seccomp:.2)$' /proc/$(pid "$1" "$2")/status | wc -l | grep -x 3" &&
        [ "$(on "$1" stat --format %u "/proc/$(pid "$1" "$2")")" -ge 61184 ]
}
for unit in "1 microservice-app@feed" "2 microservice-app@profile" "3 microservice-app@topic" "4 microservice-app@apigateway" "0 etcd"; do
    # shellcheck disable=SC2086 # two arguments
    check "${unit#* } runs without rights: no capability, none to gain, few system calls, a user of its own" hardened $unit
done
memory() { # as the kernel has it, by control groups of version 1 or 2
    on 1 sh -c "v1=\$(sed -n 's/^[0-9]*:memory://p' /proc/$1/cgroup) v2=\$(sed -n 's/^0:://p' /proc/$1/cgroup)
        cat /sys/fs/cgroup/memory\$v1/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup\$v2/memory.max"
}
check "feed may use 256 MiB and no more" same $((256 * 1024 * 1024)) "$(memory "$(pid 1 microservice-app@feed)")"
echo "$passed passed, 0 failed"
