#!/usr/bin/env python3
"""What metrics and traces cost: the same reads, by turns, with and without them, on one machine.

    monitor/testing/cost.py FOLDER PLAIN [ROUNDS [SECONDS]]

FOLDER has the binaries; PLAIN those of a build whose handles of metrics do nothing (docs/observability.md has the patch).
Each way has an etcd, a feed and a gateway of its own, all running at once; wrk (Debian's) asks one after the other, in
another order each round. CPU is user and system time of gateway and feed from /proc, per request; each figure is the
median of the rounds' ratios to the way it is compared with. Spans go to a collector that takes and forgets them.
"""
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

FOLDER, PLAIN = sys.argv[1:3]
ROUNDS, SECONDS = int(sys.argv[3]) if len(sys.argv) > 3 else 7, int(sys.argv[4]) if len(sys.argv) > 4 else 4
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def collector():
    """Answers every POST with 202."""
    listener = socket.create_server(("127.0.0.1", 0))
    buffer = bytearray(1 << 20)

    def answer(stream):
        with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += stream.recv(65536)
            head, body = data.split(b"\r\n\r\n", 1)
            left = int(re.search(rb"content-length: (\d+)", head.lower())[1]) - len(body)
            while left > 0:
                left -= stream.recv_into(buffer)
            stream.sendall(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")

    def serve():
        while True:
            answer(listener.accept()[0])

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=5) as reply:
        return reply.read().decode()


def wait(what, condition):
    for _ in range(600):
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"not within a minute: {what}")


class Way:
    """A small system: etcd, feed, gateway."""

    def __init__(self, name, folder, flags, work):
        self.name, etcd, peer = name, free_port(), free_port()
        self.http, self.debug, self.feed_debug, feed = free_port(), free_port(), free_port(), free_port()
        url, peer_url = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
        run = lambda command: subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.etcd = run(["etcd", f"--data-dir={work}/{name}", f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
                         f"--listen-peer-urls={peer_url}", f"--initial-advertise-peer-urls={peer_url}",
                         f"--initial-cluster=default={peer_url}"])
        common = [f"-etcd.addr={url}", *flags]
        self.ours = [
            run([f"{folder}/feed", f"-addr=127.0.0.1:{feed}", f"-debug.addr=127.0.0.1:{self.feed_debug}", *common]),
            run([f"{folder}/apigateway", f"-http.addr=127.0.0.1:{self.http}", f"-debug.addr=127.0.0.1:{self.debug}", *common]),
        ]
        wait(f"{name} is ready", lambda: "feed: 1 of 1 connected" in get(f"http://127.0.0.1:{self.debug}/readyz"))
        for number in (1, 2):
            body = b'{"id": %d, "user_id": 1, "content": "hello world"}' % number
            request = urllib.request.Request(f"http://127.0.0.1:{self.http}/api/feed/create_feed", body, method="PUT")
            urllib.request.urlopen(request, timeout=5).read()

    def cpu(self):
        total = 0
        for process in self.ours:
            fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def measure(self):
        """Requests per second, and microseconds of CPU per request."""
        before = self.cpu()
        told = subprocess.run(["wrk", "-t1", "-c32", f"-d{SECONDS}s", f"http://127.0.0.1:{self.http}/api/feed/get_feeds?user_id=1&size=2"],
                              capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in told or "Socket errors" in told:
            sys.exit(told)
        count = int(re.search(r"(\d+) requests in", told)[1])
        rate = float(re.search(r"Requests/sec: +([\d.]+)", told)[1])
        return rate, (self.cpu() - before) / count * 1e6

    def spans(self):
        text = get(f"http://127.0.0.1:{self.debug}/metrics") + get(f"http://127.0.0.1:{self.feed_debug}/metrics")
        counted = lambda name: sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))
        return int(counted("trace_spans_sent_total")), int(counted("trace_spans_dropped_total"))

    def stop(self):
        for process in [*reversed(self.ours), self.etcd]:
            process.terminate()
            process.wait()


def main():
    zipkin = f"-zipkin.addr=http://127.0.0.1:{collector()}"
    with tempfile.TemporaryDirectory() as work:
        ways = [Way("plain", PLAIN, [], work), Way("metrics", FOLDER, [], work),
                Way("traces-1", FOLDER, [zipkin, "-zipkin.sample=0.01"], work), Way("traces-100", FOLDER, [zipkin], work)]
        figures = {way.name: [] for way in ways}
        try:
            for way in ways:
                way.measure()  # warm
            for turn in range(ROUNDS):
                for way in ways[turn % len(ways):] + ways[:turn % len(ways)]:
                    figures[way.name].append(way.measure())
            for way, against in [("plain", "plain"), ("metrics", "plain"), ("traces-1", "metrics"), ("traces-100", "metrics")]:
                pairs = list(zip(figures[way], figures[against]))
                rate, cpu = (statistics.median(figure[place] for figure in figures[way]) for place in (0, 1))
                slower = statistics.median(1 - mine[0] / other[0] for mine, other in pairs) * 100
                dearer = statistics.median(mine[1] / other[1] - 1 for mine, other in pairs) * 100
                print(f"{way:10} {rate:7.0f} req/s {cpu:6.1f} us/req; against {against}: {slower:+5.1f} % throughput lost, {dearer:+5.1f} % CPU")
            print("spans (sent, dropped):", {way.name: way.spans() for way in ways})
        finally:
            for way in ways:
                way.stop()


main()
