# What the tests of deployments share: to say what is checked, to wait for conditions, to hold an answer to the README's.
# shellcheck shell=bash disable=SC2154 # work is theirs

passed=0
say() { printf '%(%H:%M:%S)T %s\n' -1 "$*"; }
fail() { echo "FAILED: $*" >&2 && exit 1; }

# need COMMAND PACKAGE: a missing tool fails, it does not skip.
need() { command -v "$1" >/dev/null || fail "there is no $1: please install $2"; }

# check WHAT COMMAND...: the command must succeed.
check() {
    local what=$1 && shift
    "$@" >"$work/check" 2>&1 || { cat "$work/check" >&2 && fail "$what ($*)"; }
    passed=$((passed + 1)) && say "ok: $what"
}

# eventually SECONDS WHAT COMMAND...: the command must succeed within the time.
eventually() {
    local seconds=$1 what=$2 start=$SECONDS && shift 2
    until "$@" >"$work/check" 2>&1; do
        [ $((SECONDS - start)) -lt "$seconds" ] || { cat "$work/check" >&2 && fail "not within $seconds s: $what ($*)"; }
        sleep 0.2
    done
    passed=$((passed + 1)) && say "ok: $what ($((SECONDS - start)) s)"
}

# same EXPECTED ACTUAL
same() { [ "$1" = "$2" ] || { printf 'expected:\n%s\ngot:\n%s\n' "$1" "$2" && return 1; }; }

# The README's three commands against URL, and their answers, to the byte. `http` is curl, from where the URL is reached.
transcript() {
    local url=$1
    same '{}' "$(http -XPUT "$url/api/feed/create_feed" -d '{"id": 100, "user_id": 123, "content": "hello world"}')" &&
        same '{}' "$(http -XPUT "$url/api/feed/create_feed" -d '{"id": 101, "user_id": 123, "content": "goodbye!"}')" &&
        feeds "$url"
}
feeds() {
    same '{
    "feeds": [
        {
            "id": 100,
            "user_id": 123,
            "content": "hello world"
        },
        {
            "id": 101,
            "user_id": 123,
            "content": "goodbye!"
        }
    ]
}' "$(http -XGET "$1/api/feed/get_feeds?user_id=123&&size=2")"
}

ok() { http --fail --output /dev/null "$@"; }
put() { same '{}' "$(http -XPUT "$1" -d "$2")"; }

# four_more URL: a profile and a topic are made and read. Of these and the README's three, tracer/testing/shows.py knows the traces.
four_more() {
    check "a profile is made" put "$1/api/profile/create_profile" '{"user_id": 123, "name": "Ada", "company": "AE", "title": "analyst"}'
    check "and read" ok "$1/api/profile/get_profile?user_id=123"
    check "a topic is made" put "$1/api/topic/create_topic" '{"topic_id": 7, "subject": "s", "content": "c"}'
    check "and read" ok "$1/api/topic/view?topic_id=7"
}

# connected DEBUG_URL SERVICE COUNT: the gateway is connected to exactly so many instances, and lists no other.
connected() {
    http "$1/instances" | python3 -c '
import json, sys
instances = json.load(sys.stdin)[sys.argv[1]]["instances"]
sys.exit([i["ready"] for i in instances] != [True] * int(sys.argv[2]))' "$2" "$3"
}
