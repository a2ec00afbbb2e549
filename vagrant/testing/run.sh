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
need dockerd docker.io && need systemd-analyze systemd && need apt-get apt && need curl curl && need python3 python3
need vagrant vagrant

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
# etcd comes as its packages, for provision.sh to install on node-0.
cp -r vagrant/testing/node "$work/node" && mkdir "$work/node/repository"
download() { (cd "$work/node/repository" && apt-get download etcd-server etcd-client); }
check "Debian's etcd is here" eval "download || { apt-get update && download; }"
apt-cache show --no-all-versions etcd-server etcd-client | sed 's|^Filename: .*/|Filename: |' >"$work/node/repository/Packages"
dpkg-query --show --showformat='Package: ${Package}\nStatus: ${Status}\nVersion: ${Version}\nArchitecture: ${Architecture}\nMaintainer: ${Maintainer}\nDescription: ${binary:Summary}\n\n' \
    adduser libc6 init-system-helpers >"$work/node/status"
docker/testing/image-from-packages node "$work/node" systemd dbus bash dash coreutils util-linux sed grep mawk tar gzip \
    hostname diffutils procps init-system-helpers perl-base iproute2 curl apt dpkg libc-bin adduser
postgresql=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -n | tail -n 1)
docker/testing/image-from-packages postgres docker/testing/postgres "postgresql-${postgresql:-15}" dash coreutils util-linux sed
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
    docker exec -i "$node" sh -c 'cat >/tmp/vagrant-shell' <vagrant/provision.sh
    docker exec --env LOCAL_IP="192.168.50.$((10 + ${node#node-}))" --env ETCD_ENDPOINT=http://192.168.50.10:2379 \
        ${1:+--env "$1"} "$node" bash /tmp/vagrant-shell
}
for node in 0 1 2 3 4; do boot "$node"; done
booted() { on "$1" systemctl is-system-running; }
for node in 0 1 2 3 4; do eventually 60 "node-$node has booted" booted "$node"; done
check "node-0 has no etcd" on 0 sh -c '! command -v etcd'
for node in 0 1 2 3 4; do check "node-$node is provisioned" provision "node-$node"; done
check "node-0 has Debian's etcd" on 0 dpkg --status etcd-server etcd-client
check "under our unit" same /etc/systemd/system/etcd.service "$(on 0 systemctl show --property FragmentPath --value etcd)"

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

say "one database for both"
docker run --detach --name database --network private --ip 192.168.50.20 --env POSTGRES_USER=app --env POSTGRES_DB=app \
    --env POSTGRES_PASSWORD=password postgres >/dev/null
eventually 30 "PostgreSQL is ready" docker exec database pg_isready --host 192.168.50.20
for node in 1 2; do
    check "node-$node is provisioned with it" provision "node-$node" STORE_URL=postgres://app:password@192.168.50.20/app
    eventually 10 "the gateway is connected to both" connected "$debug" feed 2
done
check "the README's curls" transcript "$url"
for _ in 1 2 3 4 5 6; do feeds "$url" >"$work/check" || { cat "$work/check" && fail "an instance lacks the data"; }; done
check "the data is shared by both: every read has it" feeds "$url"
check "the first answers reads" answered 192.168.50.11
check "the second answers reads" answered 192.168.50.12
check "it is stopped" on 2 systemctl stop microservice-app@feed
check "and went by itself" same success "$(on 2 systemctl show --property Result --value microservice-app@feed)"
eventually 10 "the gateway knows" connected "$debug" feed 1

say "units"
pid() { on "$1" systemctl show --property MainPID --value "$2"; }
check "provisioned as at first" provision node-1
before=$(pid 1 microservice-app@feed)
provision node-1 >"$work/again"
check "provisioned again, nothing is written" same "node-1 runs, at 192.168.50.11" "$(cat "$work/again")"
on 1 sh -c 'cd /usr/local/share/doc/microservice-app && echo More. | tee -a README.md >>/etc/microservice-app/topic.env'
provision node-1 >"$work/again"
check "what was changed by hand is put right" same \
    "$(printf 'wrote %s\n' /usr/local/share/doc/microservice-app/README.md /etc/microservice-app/topic.env)" "$(grep ^wrote "$work/again")"
check "feed is not made of that, and has not been restarted" same "$before" "$(pid 1 microservice-app@feed)"
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
hardened() { # NODE UNIT UID: what the kernel says of the running process; its user has this number or a higher one
    on "$1" sh -c "grep -E '^(CapEff:.0+|NoNewPrivs:.1|Seccomp:.2)$' /proc/$(pid "$1" "$2")/status | wc -l | grep -x 3" &&
        [ "$(on "$1" stat --format %u "/proc/$(pid "$1" "$2")")" -ge "$3" ]
}
units="1:microservice-app@feed 2:microservice-app@profile 3:microservice-app@topic 4:microservice-app@apigateway"
for unit in $units; do
    check "${unit#*:} runs without rights: no capability, none to gain, few system calls, a user of its own" hardened "${unit%:*}" "${unit#*:}" 61184
done
check "etcd, too, as the user that its package made" hardened 0 etcd 100
# Memory in MiB and tasks, as the kernel has them by control groups of version 1 or 2; and open files, as systemd has them:
# where containers run, the kernel may give fewer.
limits() { # NODE UNIT
    on "$1" sh -c 'limit() {
            cat "/sys/fs/cgroup/$1$(sed -n "s/^[0-9]*:$1://p" "/proc/$0/cgroup")/$2" 2>/dev/null ||
                cat "/sys/fs/cgroup$(sed -n "s/^0:://p" "/proc/$0/cgroup")/$3"
        }
        echo $(($(limit memory memory.limit_in_bytes memory.max) >> 20)) $(limit pids pids.max pids.max) \
            $(systemctl show --property LimitNOFILE --value "$1")' "$(pid "$1" "$2")" "$2"
}
for unit in $units; do
    check "${unit#*:} may use 256 MiB, 2048 tasks, 65536 files" same "256 2048 65536" "$(limits "${unit%:*}" "${unit#*:}")"
done
check "etcd may use 512 MiB, 2048 tasks, 65536 files" same "512 2048 65536" "$(limits 0 etcd)"
on 3 sed -i 's/$/ -threads=1024/' /etc/microservice-app/topic.env
check "as on a machine of 1024 CPUs, topic starts" on 3 systemctl restart microservice-app@topic
eventually 10 "the gateway is connected to it" connected "$debug" topic 1
check "with so many threads" on 3 sh -c "ls /proc/$(pid 3 microservice-app@topic)/task | wc -l | grep -E '^10[2-9][0-9]$'"
# Requests at an even pace can all fall between two ticks of the clock, at which samples are taken: here each follows the last.
profiled() { # ADDRESS:PORT: while it works, its profile has samples
    on 0 load -target "$url" -target.allow 192.168.50.14 -rate 0 -duration 3s >/dev/null &
    http "http://$1/debug/pprof/flamegraph?seconds=2" >"$work/flames"
    wait $!
    grep '<svg' "$work/flames" && ! grep "No samples" "$work/flames"
}
check "a profile can be taken of feed" profiled 192.168.50.11:6062
check "and of the gateway" profiled 192.168.50.14:6060
echo "$passed passed, 0 failed"
