#!/usr/bin/env bash
# The images and the compose file, run for real: on a docker daemon of its own, with stand-ins for the images of others.
#
#   docker/testing/run.sh [FOLDER]    FOLDER has static binaries; without it they are built
#
# $COMPOSE runs the file, as docker-compose does; COMPOSE=$(docker/testing/compose2) is `docker compose` 2.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d) events="" compose=${COMPOSE:-docker-compose}
# shellcheck source=docker/testing/lib.sh
. docker/testing/lib.sh
# shellcheck source=docker/testing/stand-ins.sh
. docker/testing/stand-ins.sh
need dockerd docker.io && need "$compose" docker-compose && need etcd etcd-server && need etcdctl etcd-client
need curl curl && need python3 python3 && need readelf binutils && need protoc protobuf-compiler
if [ $# -gt 0 ]; then binaries=$(realpath "$1"); else .ci/static-build && binaries=$(realpath "${CARGO_TARGET_DIR:-target}/static"); fi

finish() {
    local code=$?
    [ "$code" = 0 ] || compose logs --tail=20 2>/dev/null || true
    [ -z "$events" ] || kill "$events" 2>/dev/null || true
    compose down --volumes --timeout 15 >/dev/null 2>&1 || true
    docker/testing/daemon stop "$work/daemon" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT
environment=$(docker/testing/daemon start "$work/daemon")
eval "$environment"
compose() { "$compose" --file docker/docker-compose.yml --project-name "deploy$$" "$@"; }
http() { ip netns exec "$NETNS" curl --silent --show-error --max-time 5 "$@"; }
url=http://localhost:8080 debug=http://localhost:6060

say "stand-ins"
stand_ins_of_docker

say "images"
docker/build.sh --local "$binaries" >"$work/build" 2>&1 || { cat "$work/build" && fail "build.sh"; }
version=$("$binaries/feed" -version) && version=${version#* }
for command in apigateway feed profile topic; do
    image=microservice-app/$command:latest
    field() { docker image inspect --format "$1" "$image"; }
    size=$(field '{{.Size}}')
    check "$image is $((size / 1024)) KiB, at most 12 MiB" [ "$size" -le $((12 * 1024 * 1024)) ]
    check "$image runs as nobody" same 65532:65532 "$(field '{{.Config.User}}')"
    check "$image tells its version" same "$version" "$(field '{{index .Config.Labels "org.opencontainers.image.version"}}')"
    check "$image asks itself how it is" same "[CMD /$command -healthcheck]" "$(field '{{.Config.Healthcheck.Test}}')"
    check "$command -version" same "$command $version" "$(docker run --rm --read-only --network none "$image" -version)"
    files=$(docker create "$image" | xargs docker export | tar --list | grep -v '/$' | grep -vE '^(dev|proc|sys|etc/(hosts|hostname|resolv.conf|mtab)|\.dockerenv)' | sort)
    check "$image has nothing else in it" same "$(printf '%s\n' "$command" etc/ssl/certs/ca-certificates.crt | sort)" "$files"
done
check "another prefix and tag" docker/build.sh --local "$binaries" --prefix example.com/team --tag v9
check "are names of the same images" docker image inspect example.com/team/feed:v9 example.com/team/apigateway:v9

say "compose"
check "docker-compose.yml is valid" compose config --quiet
check "docker compose 2 is here" docker/testing/compose2
compose2=$(docker/testing/compose2)
for file in docker/docker-compose.yml monitor/docker-compose.yml monitor/docker-compose.yml.2; do
    check "$file is valid for it, too" "$compose2" --file "$file" config --quiet
done
check "tracer/ on top of docker/ is valid for it, too" env --chdir tracer "$compose2" config --quiet
docker events --since "$(date +%s)" --filter event=start --filter event=health_status \
    --format '{{index .Actor.Attributes "com.docker.compose.service"}} {{.Action}}' >"$work/events" &
events=$!
check "everything starts" compose up -d
health() { same "$2" "$(docker inspect --format '{{.State.Health.Status}}' "$(compose ps -q "$1")")"; }
eventually 30 "the gateway is healthy" health apigateway healthy
for service in feed profile topic; do eventually 10 "the gateway is connected to $service" connected "$debug" "$service" 1; done
check "the README's curls" transcript "$url"
# after EVENT EVENT: when each happened first.
after() { awk -v late="$1" -v early="$2" '$0 == early { seen = 1 } $0 == late { exit } END { exit !(seen && $0 == late) }' "$work/events"; }
for service in feed profile topic; do
    for other in etcd postgres; do check "$service was started when $other was healthy" after "$service start" "$other health_status: healthy"; done
    check "the gateway was started when $service was healthy" after "apigateway start" "$service health_status: healthy"
done
kill "$events" && events=""
for service in etcd postgres feed profile topic apigateway; do
    limits=$(docker inspect --format '{{.HostConfig.Memory}} {{.HostConfig.ReadonlyRootfs}}' "$(compose ps -q "$service")")
    check "$service has a memory limit: $((${limits% *} / 1048576)) MiB" [ "${limits% *}" -gt 0 ]
    case $service in etcd | postgres) ;; *) check "$service cannot write to its image" same true "${limits#* }" ;; esac
done
profiled() { # with a sample in it
    same 200 "$(http --max-time 20 -o "$work/profile" -w '%{http_code}' "$debug/debug/pprof/profile?seconds=1")" &&
        gzip -dc "$work/profile" | protoc --decode_raw | grep '^2 {'
}
ip netns exec "$NETNS" "$binaries/load" -connections=2000 -rate=0 -duration=15s -progress=off >"$work/load" 2>&1 &
load=$!
check "the gateway under load tells what it spends its time on" profiled
check "2,000 connections have been reading for 15 s" wait "$load"
cat "$work/load"
unharmed() { same "false 0" "$(docker inspect --format '{{.State.OOMKilled}} {{.RestartCount}}' "$(compose ps -q "$1")")"; }
for service in etcd postgres feed profile topic apigateway; do check "$service had memory enough" unharmed "$service"; done

say "scale"
check "three feeds" compose up -d --no-recreate --scale feed=3
eventually 20 "the gateway is connected to each at its own address" connected "$debug" feed 3
# Round robin: each instance is asked in nine reads, and each knows what one of them was told.
for _ in 1 2 3 4 5 6 7 8 9; do feeds "$url" >"$work/check" || { cat "$work/check" && fail "an instance lacks the data"; }; done
check "data is shared by the three" feeds "$url"
answered() { http "http://$1:6062/metrics" | grep -E '^rpc_server_duration_seconds_count\{.*method="GetFeeds".*\} [1-9]'; }
for container in $(compose ps -q feed); do
    address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$container")
    check "feed at $address answered some of the reads" answered "$address"
done

say "failure"
reads_while() { # COMMAND...: it succeeds, and so does every read meanwhile, undegraded
    "$@" &
    local child=$! reads=0
    while kill -0 "$child" 2>/dev/null; do
        same "200 " "$(http -o /dev/null -w '%{http_code} %header{x-degraded}' "$url/api/feed/get_feeds?user_id=123&size=2" -H 'Prefer: handling=strict')" || return 1
        reads=$((reads + 1))
    done
    wait "$child" && [ "$reads" -gt 0 ]
}
first=$(compose ps -q feed | head -n 1)
check "one feed is stopped and no read fails" reads_while docker stop --time 15 "$first"
check "it ended by itself" same 0 "$(docker inspect --format '{{.State.ExitCode}}' "$first")"
eventually 10 "the gateway has two left" connected "$debug" feed 2
check "it is started again" docker start "$first"
eventually 20 "the gateway has three again" connected "$debug" feed 3
check "one feed is killed and no read fails" reads_while sh -c "kill -9 $(docker inspect --format '{{.State.Pid}}' "$first") && sleep 1"
restarted() { same 1 "$(docker inspect --format '{{.RestartCount}}' "$first")"; }
eventually 20 "docker has started it again" restarted
eventually 20 "the gateway has three once more" connected "$debug" feed 3
check "the store goes away" compose stop --timeout 20 postgres
eventually 60 "topic says that it is unhealthy" health topic unhealthy
check "and comes back" compose start postgres
eventually 60 "topic is healthy again" health topic healthy

say "another start"
check "everything goes" compose down --timeout 15
check "and comes again" compose up -d
for service in feed profile topic; do eventually 20 "the gateway is connected to $service" connected "$debug" "$service" 1; done
check "data has stayed" feeds "$url"
export STORE_URL=memory:
check "one variable makes the stores forgetful" compose up -d
eventually 30 "the gateway is connected to the new feed" connected "$debug" feed 1
check "which knows nothing" same '{
    "feeds": []
}' "$(http "$url/api/feed/get_feeds?user_id=123&size=2")"
echo "$passed passed, 0 failed"
