"""What the processes keep: after many requests, per idle connection, and per record of the memory store."""

import socket
import time

from scene import FEEDS, PROFILE, Stage, fill_many, wrk

IDLE = 9_000  # below the gateway's default cap of 10,000
USERS, PER_USER = 100_000, 10
TEXTS = [20, 100]  # bytes of a record's text


def measure(options):
    """Resident memory: after many requests, per idle connection, per record."""
    with Stage() as stage:
        programs = {"gateway": stage.gateways["ours"], "feed": stage.feed, "profile": stage.profile,
                    "bare gateway": stage.gateways["bare"], "bare feed": stage.bare_feed}
        gateway = programs["gateway"]
        samples, sent, end = [], 0, time.monotonic() + 60 * options.minutes
        while time.monotonic() < end or (not options.minutes and sent < options.requests):
            sent += wrk(gateway.port, FEEDS, 8)["requests"] + wrk(gateway.port, PROFILE, 2)["requests"]
            samples.append({"requests": sent, **{name: program.memory() for name, program in programs.items()}})
        wrk(stage.gateways["bare"].port, FEEDS, 2)
        wrk(stage.gateways["bare_all"].port, FEEDS, 2)
        result = {"samples": samples, "requests": sent, "resident": {n: p.memory() for n, p in programs.items()}}
        result["idle_bytes"] = idle(gateway)
        result["idle_bytes_bare"] = idle(programs["bare gateway"])
        if not options.minutes:
            result["records"] = [store(stage, text) for text in TEXTS]
    print(f"resident after {sent} requests:", ", ".join(f"{n} {b / 2**20:.1f} MiB" for n, b in result["resident"].items()))
    first, last = samples[len(samples) // 2], samples[-1]
    print("grown in the second half:", ", ".join(f"{name} {(last[name] - first[name]) / 1024:.0f} KiB" for name in programs))
    print(f"an idle connection: {result['idle_bytes'] / 1024:.1f} KiB, bare {result['idle_bytes_bare'] / 1024:.1f}   target <= 10")
    for record in result.get("records", []):
        print(f"a record of {record['own']} bytes takes {record['used']:.0f}, {record['ratio']:.2f} times   target <= 2")
    return result


def idle(gateway):
    """Bytes of the gateway per connection that has asked once and stays open."""
    before = gateway.memory()
    request = f"GET {FEEDS} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
    connections = []
    for _ in range(IDLE):
        connection = socket.create_connection(("127.0.0.1", gateway.port))
        connection.sendall(request)
        connections.append(connection)
        if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
            raise SystemExit("bench: an idle connection's request failed")
    used = (gateway.memory() - before) / IDLE
    for connection in connections:
        connection.close()
    return used


def store(stage, text):
    """Bytes that a new feed service takes for each of a million records, ids and a text."""
    feed = stage.ours("feed")
    front = stage.bare("bare-gateway", feed)
    fill_many(front.port, 1, 1, text)
    before = feed.memory()
    fill_many(front.port, USERS, PER_USER, text)
    own, used = 8 + 8 + text, (feed.memory() - before) / (USERS * PER_USER)
    feed.stop()
    return {"own": own, "used": used, "ratio": used / own}
