#!/usr/bin/env bash
# Zipkin with Elasticsearch's storage, all for real: an OpenSearch node, Zipkin, the whole system, and the job that draws
# the graph; then Zipkin is asked what it shows.
#
#   tracer/testing/run.sh [FOLDER]    FOLDER has the system's binaries; without it they are built
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD work=$(mktemp -d) pids=()
# shellcheck source=docker/testing/lib.sh
. docker/testing/lib.sh
# shellcheck source=tracer/testing/fetch.sh
. tracer/testing/fetch.sh
need java openjdk-17-jre-headless && need mvn maven && need etcd etcd-server && need curl curl && need python3 python3
if [ $# -gt 0 ]; then binaries=$(realpath "$1"); else .ci/static-build && binaries=${CARGO_TARGET_DIR:-$root/target}/static; fi

finish() {
    local code=$?
    if [ "$code" != 0 ]; then for log in "$work"/*.log; do echo "== $log" && tail -n 30 "$log"; done; fi
    # The youngest first: the system before what it sends to.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill "${pids[i]}" 2>/dev/null && wait "${pids[i]}" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
start() { # NAME COMMAND...
    local name=$1 && shift
    "$@" >"$work/$name.log" 2>&1 &
    pids+=($!)
}
http() { curl --silent --show-error --max-time 5 "$@"; }

say "what Maven and PyPI have"
check "zipkin-server" make target/zipkin/zipkin-server.jar
check "opensearch" fetch opensearch false
check "zipkin-dependencies" fetch dependencies true
check "Java 11" fetch_java11

say "start"
chmod 755 "$work"
es=$(free_port) zipkin=$(free_port) public=$(free_port)
es_url=http://127.0.0.1:$es zipkin_url=http://127.0.0.1:$zipkin url=http://127.0.0.1:$public
start opensearch tracer/testing/opensearch/start "$zipkin_jars/opensearch" "$work/opensearch" "$es"
eventually 120 "OpenSearch answers" ok "$es_url/_cluster/health?wait_for_status=yellow&timeout=2s"
export STORAGE_TYPE=elasticsearch ES_HOSTS=$es_url ES_INDEX_SHARDS=1 ES_INDEX_REPLICAS=0
QUERY_PORT=$zipkin start zipkin java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -jar "$zipkin_jars/zipkin-server.jar"
eventually 120 "Zipkin answers" ok "$zipkin_url/health"
check "and keeps its traces in Elasticsearch" bash -c "curl -s $zipkin_url/health | grep -q 'ElasticsearchStorage{initialEndpoints=$es_url'"
start up "$binaries/up" -http.addr="127.0.0.1:$public" -data.dir="$work/data" -zipkin.addr="$zipkin_url/api/v1/spans"
# It says so when every service is registered and connected, which the gateway alone does not wait for.
eventually 60 "the system is ready" grep -q "Ctrl-C stops everything" "$work/up.log"

say "requests"
check "the README's three curls" transcript "$url"
four_more "$url"

say "what Zipkin shows"
eventually 60 "seven requests are seven traces of four services" tracer/testing/shows.py "$zipkin_url" traces
day=$(date -u +%F)
index=zipkin-span-$day
check "they are in Elasticsearch" bash -c "curl -s $es_url/_cat/indices/$index?h=docs.count | grep -qx '23'"
check "without the job there is no graph" bash -c "! tracer/testing/shows.py $zipkin_url links"
draw() {
    local jars=$zipkin_jars/dependencies
    # The newer reader of class files first.
    "$java11" -Xmx512m -cp "$(echo "$jars"/xbean-*.jar):$(echo "$jars"/zipkin-dependencies-*.jar)" \
        zipkin2.dependencies.ZipkinDependenciesJob "$day"
}
export ES_NODES_WAN_ONLY=true SPARK_LOCAL_IP=127.0.0.1
check "the job runs" draw
check "the graph has the four links" tracer/testing/shows.py "$zipkin_url" links
echo "$passed passed, 0 failed"
