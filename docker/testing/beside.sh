#!/usr/bin/env bash
# The compose files of monitor/ and tracer/ beside that of docker/, as their READMEs have it, and that of monitor/ for a
# system on hosts: run for real, on a docker daemon of its own, with stand-ins for the images of others. Grafana is left out:
# there is nothing to make a stand-in of.
#
#   docker/testing/beside.sh [FOLDER]    FOLDER has static binaries; without it they are built
#
# $COMPOSE runs the files, as docker-compose does; COMPOSE=$(docker/testing/compose2) is `docker compose` 2.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d) pids=() compose=${COMPOSE:-docker-compose}
# shellcheck source=docker/testing/lib.sh
. docker/testing/lib.sh
# shellcheck source=docker/testing/stand-ins.sh
. docker/testing/stand-ins.sh
# shellcheck source=tracer/testing/fetch.sh
. tracer/testing/fetch.sh
need dockerd docker.io && need "$compose" docker-compose && need etcd etcd-server && need curl curl && need python3 python3
need java openjdk-17-jre-headless && need mvn maven && need busybox busybox
if [ $# -gt 0 ]; then binaries=$(realpath "$1"); else .ci/static-build && binaries=$(realpath "${CARGO_TARGET_DIR:-target}/static"); fi

finish() {
    local code=$? container
    if [ "$code" != 0 ]; then
        for container in $(docker ps --all --quiet); do
            docker ps --all --filter "id=$container" --format '== {{.Names}}: {{.Status}}' && docker logs --tail 15 "$container"
        done 2>&1 || true
        for log in "$work"/*.log; do [ ! -e "$log" ] || { echo "== $log" && tail -n 15 "$log"; }; done
    fi
    stop_all
    docker/testing/daemon stop "$work/daemon" >/dev/null 2>&1 || true
    rm -rf "$work"
}
stop_all() {
    # The youngest first: the system before what it needs.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill "${pids[i]}" 2>/dev/null && wait "${pids[i]}" 2>/dev/null || true; done
    pids=()
}
trap finish EXIT
environment=$(docker/testing/daemon start "$work/daemon")
eval "$environment"
inside() { ip netns exec "$NETNS" "$@"; }
http() { inside curl --silent --show-error --max-time 5 "$@"; }
start() { # NAME COMMAND...
    local name=$1 && shift
    ip netns exec "$NETNS" "$@" >"$work/$name.log" 2>&1 &
    pids+=($!)
}

say "stand-ins"
fetch_all >"$work/build" 2>&1 || { cat "$work/build" >&2 && fail "not all of Maven's and PyPI's is here"; }
stand_ins_of_docker
stand_ins_of_monitor
stand_ins_of_tracer
docker/build.sh --local "$binaries" >"$work/build" 2>&1 || { cat "$work/build" >&2 && fail "build.sh"; }

# A copy, for a token is written into it; and where this machine, as some that are containers themselves, has not what the
# files give away, they give what there is.
mkdir "$work/tree"
cp -r docker monitor tracer "$work/tree/"
files=$(ulimit -Hn)
if [ "$files" != unlimited ] && [ "$files" -lt 65536 ]; then
    say "this machine allows $files open files: so does elasticsearch"
    sed -i "s/nofile: 65536/nofile: $files/" "$work/tree/tracer/docker-compose.yml"
fi
capabilities=$(awk '$1 == "CapBnd:" { print $2 }' /proc/self/status)
if ((~0x$capabilities & 0x1ffffffffff)); then
    say "this machine has not every capability: cadvisor gets those that it uses"
    sed -i 's/privileged: true/cap_add: [SYS_PTRACE, SYSLOG]/' "$work/tree/monitor/docker-compose.yml"
fi
compose() { (cd "$work/tree/$1" && "$compose" "${@:2}"); } # FOLDER ARGUMENT...
healthy() { same healthy "$(docker inspect --format '{{.State.Health.Status}}' "$(compose "${@:1:$#-1}" ps -q "${@: -1}")")"; }
url=http://localhost:8080 debug=http://localhost:6060 prometheus=http://localhost:9090 zipkin=http://localhost:9411

# targets LINE...: what Prometheus scrapes, job and program or address, is this and answers.
targets() {
    same "$(printf '%s\n' "$@" | sort)" "$(http "$prometheus/api/v1/targets?state=active" | python3 -c '
import json, sys
for one in json.load(sys.stdin)["data"]["activeTargets"]:
    labels = one["labels"]
    print(labels["job"], labels.get("program") or labels["instance"], *([] if one["health"] == "up" else [one["lastError"]]))
' | sort)"
}
monitors=("monitor localhost:9090" "monitor cadvisor:8080" "monitor alertmanager:9093")
# series COUNT QUERY: so many series answer it.
series() {
    same "$1" "$(http --get "$prometheus/api/v1/query" --data-urlencode "query=$2" | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["data"]["result"]))')"
}
# Every rule of rules.yml, each evaluated without an error.
rules() {
    same "$(grep -cE '^ +- (alert|record):' monitor/prometheus/rules.yml)" "$(http "$prometheus/api/v1/rules" | python3 -c '
import json, sys
print(sum(rule["health"] == "ok" for group in json.load(sys.stdin)["data"]["groups"] for rule in group["rules"]))')"
}
# The queries of Grafana's dashboard of containers.
docker_dashboard() {
    # shellcheck disable=SC2016 # these are Grafana's variables
    python3 -c '
import json
def panels(one):
    for panel in one.get("panels", []):
        yield panel
        yield from panels(panel)
for panel in panels(json.load(open("monitor/grafana/docker_dashboard.json"))):
    for target in panel.get("targets", []):
        print(target["expr"].replace("$__rate_interval", "1m").replace("$name", ".*"))' >"$work/queries"
    local query
    while read -r query; do
        http --get "$prometheus/api/v1/query" --data-urlencode "query=$query" </dev/null | grep -q '"result":\[{' || { echo "no data: $query" && return 1; }
    done <"$work/queries"
    [ -s "$work/queries" ]
}

say "docker/, and tracer/ on top of it"
check "docker/: up -d" compose docker up -d
for service in feed profile topic; do eventually 30 "the gateway is connected to $service" connected "$debug" "$service" 1; done
# The job that draws the graph does not keep the test waiting for ten minutes.
export DEPENDENCIES_INTERVAL=5
check "tracer/: up -d" compose tracer up -d
for service in feed profile topic; do eventually 30 "the gateway is connected to $service" connected "$debug" "$service" 1; done
for service in elasticsearch zipkin; do eventually 60 "$service is healthy" healthy tracer "$service"; done
check "Zipkin keeps its traces in Elasticsearch" bash -c "ip netns exec $NETNS curl -s $zipkin/health | grep -q 'ElasticsearchStorage{initialEndpoints=http://elasticsearch:9200'"
shows() { inside tracer/testing/shows.py "$zipkin" "$1"; }
check "the README's three curls" transcript "$url"
eventually 30 "are three traces" shows curls
four_more "$url"
eventually 60 "seven requests are seven traces of four services" shows traces
eventually 120 "the job draws the graph with its four links" shows links
check "it is stopped, for it works again and again" compose tracer stop --timeout 15 dependencies
check "three feeds" compose tracer up -d --no-recreate --scale feed=3 feed
eventually 20 "the gateway is connected to each" connected "$debug" feed 3

say "monitor/ beside them"
echo "the webhook's token" >"$work/tree/monitor/alertmanager/token"
second=(monitor -f docker-compose.yml.2)
check "monitor/: -f docker-compose.yml.2 up -d" compose "${second[@]}" up -d prometheus alertmanager cadvisor
for service in prometheus alertmanager cadvisor; do eventually 60 "$service is healthy" healthy "${second[@]}" "$service"; done
app=("app feed" "app profile" "app topic" "app apigateway")
eventually 30 "all targets are up, each of the three feeds among them" targets "${monitors[@]}" "${app[@]}" "app feed" "app feed"
eventually 30 "all rules are loaded, and evaluate" rules
check "Prometheus knows its Alertmanager" bash -c "ip netns exec $NETNS curl -s $prometheus/api/v1/alertmanagers | grep -q '\"activeAlertmanagers\":\[{\"url\":\"http://alertmanager:9093/api/v2/alerts\"}\]'"
eventually 60 "cAdvisor tells of every container, by its name" series "$(docker ps --quiet | wc -l)" 'container_memory_usage_bytes{name!=""}'
eventually 60 "every query of the dashboard of containers has data" docker_dashboard
open_ports() {
    docker ps --quiet | xargs docker inspect --format '{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}} {{.HostPort}}{{println}}{{end}}{{end}}' |
        awk 'NF == 2 && $1 != "127.0.0.1" { print $2 }' | sort -u
}
check "only the gateway's port is open to others" same 8080 "$(open_ports)"
start webhook python3 docker/testing/webhook.py "the webhook's token" "$work/told"
check "every feed is stopped" compose tracer stop feed
told() { grep -qx "$1 NobodyRegistered feed" "$work/told"; }
eventually 90 "the webhook is told, with its token" told firing
check "they are started again" compose tracer start feed
eventually 150 "and it is told off" told resolved

say "down"
check "monitor/: down" compose "${second[@]}" down --volumes --timeout 15
check "tracer/: down" compose tracer down --volumes --timeout 15
check "nothing is left" same "" "$(docker ps --all --quiet; docker volume ls --quiet; docker network ls --quiet --filter type=custom)"
stop_all

say "monitor/ and a system on hosts"
for last in 10 11 12 13 14; do inside ip address add "192.168.50.$last/32" dev lo; done
registry=http://192.168.50.10:2379
start etcd etcd --data-dir "$work/etcd" --listen-client-urls "$registry" --advertise-client-urls "$registry"
common=(-etcd.addr="$registry" -advertise.debug=on)
start feed "$binaries/feed" -addr=192.168.50.11:8082 "${common[@]}"
start profile "$binaries/profile" -addr=192.168.50.12:8083 "${common[@]}"
start topic "$binaries/topic" -addr=192.168.50.13:8084 "${common[@]}"
start apigateway "$binaries/apigateway" -http.addr=192.168.50.14:8080 -etcd.addr="$registry"
for service in feed profile topic; do eventually 30 "the gateway is connected to $service" connected http://192.168.50.14:6060 "$service" 1; done
check "monitor/: up -d" compose monitor up -d prometheus alertmanager cadvisor
for service in prometheus alertmanager cadvisor; do eventually 60 "$service is healthy" healthy monitor "$service"; done
eventually 30 "all targets are up" targets "${monitors[@]}" "${app[@]}"
start second "$binaries/feed" -addr=192.168.50.11:8092 -debug.addr=192.168.50.11:6072 "${common[@]}"
eventually 30 "a second feed is found" targets "${monitors[@]}" "${app[@]}" "app feed"
kill "${pids[-1]}" && wait "${pids[-1]}" || true
eventually 30 "and forgotten, when it has left" targets "${monitors[@]}" "${app[@]}"
check "all rules are loaded, and evaluate" rules
check "monitor/: down" compose monitor down --volumes --timeout 15
echo "$passed passed, 0 failed"
