"""How soon a new instance is used: from its key's being written in etcd to the first request that it serves."""

import base64
import json
import statistics
import subprocess
import time
import urllib.request

import scene
from scene import BARE, Program, Scene, free_port, get, until

PREFIX = "/services/feed/"


class Registry:
    """Keys, by etcd's own JSON gateway."""

    def __init__(self, url):
        self.url = url

    def _ask(self, what, body):
        request = urllib.request.Request(f"{self.url}/v3/{what}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    @staticmethod
    def _coded(text):
        return base64.b64encode(text.encode()).decode()

    def put(self, address):
        self._ask("kv/put", {"key": self._coded(PREFIX + address), "value": self._coded(address)})

    def put_all(self, addresses, prefix=PREFIX):
        """Seconds that it took."""
        command = [BARE / "register", self.url, prefix]
        return float(subprocess.run(command, input="\n".join(addresses), check=True, capture_output=True, text=True).stdout)

    def delete(self, address):
        self._ask("kv/deleterange", {"key": self._coded(PREFIX + address)})


def addresses(count, port, network=1):
    return [f"127.{network}.{n // 250}.{n % 250 + 1}:{port}" for n in range(count)]


class Crowd(Scene):
    """A gateway, and one program that answers as any number of feed instances."""

    def __enter__(self):
        self.port = free_port()
        self.keys = Registry(self.registry)
        self.many = Program(self.folder, [BARE / "many-feeds", f"0.0.0.0:{self.port}"], self.port)
        self.programs.append(self.many)
        self.many.ready()
        self.keys.put_all(addresses(1, self.port))
        self.gateway = self.ours("apigateway")
        return self

    def connected(self):
        text = get(self.gateway.debug, "/metrics")[1].decode()
        line = next(line for line in text.splitlines() if line.startswith('pool_instances{service="feed",state="ready"}'))
        return int(line.split()[-1])

    def settle(self, count):
        until(f"{count} instances are connected", lambda: self.connected() == count, 120)

    def first(self, address):
        """When the instance was first asked, in nanoseconds; none when it was not yet."""
        for line in self.many.log.read_text().splitlines():
            asked, _, at = line.partition(" ")
            if asked == address and at.isdigit():
                return int(at)
        return None

    def load(self, rate, seconds, out):
        command = [scene.OURS / "load", f"-target=http://127.0.0.1:{self.gateway.port}", f"-rate={rate}", f"-duration={seconds}s",
                   "-connections=8", f"-json={out}"]
        return subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def fresh(crowd, times, network):
    """Milliseconds from a key's writing to its instance's first request, for new instances one after the other."""
    waits = []
    for address in addresses(times, crowd.port, network):
        written = time.time_ns()
        crowd.keys.put(address)
        waits.append((until(f"{address} is asked", lambda: crowd.first(address)) - written) / 1e6)
        crowd.keys.delete(address)
    return {"p50_ms": statistics.median(waits), "p99_ms": percentile(waits, 0.99), "most_ms": max(waits)}


def absorb(options, instances):
    """Reads while nothing happens, while etcd is given as many keys that are not the gateway's, and while all instances come."""
    with Crowd() as crowd:
        out = crowd.folder / "load.json"
        crowd.keys.put_all(addresses(3, crowd.port))
        crowd.settle(3)
        result = {}
        for what, prefix in (("calm", None), ("others", "/services/other/"), ("absorbing", PREFIX)):
            load = crowd.load(options.rate, 10, out)
            if prefix:
                result[f"{what}_written_s"] = crowd.keys.put_all(addresses(instances, crowd.port), prefix)
            load.wait()
            report = json.loads(out.read_text())
            result[what] = {**report["reads"], "statuses": report["statuses"], "degraded": report["degraded"]}
        for what in ("others", "absorbing"):
            result[f"{what}_ratio"] = result[what]["p99_us"] / result["calm"]["p99_us"]
        return result


def measure(options, instances, times=200):
    result = {"instances": instances}
    if instances > 3:
        runs = [absorb(options, instances) for _ in range(options.rounds)]
        middle = {what: statistics.median(run[what]["p99_us"] for run in runs) for what in ("calm", "others", "absorbing")}
        ratios = {what: statistics.median(run[what] for run in runs) for what in ("others_ratio", "absorbing_ratio")}
        result["absorbed"] = {"p99_us": middle, **ratios, "runs": runs}
    with Crowd() as crowd:
        started = time.monotonic()
        crowd.keys.put_all(addresses(max(instances, 3), crowd.port))
        crowd.settle(max(instances, 3))
        result["absorbed_s"] = time.monotonic() - started
        result["gateway_memory"] = crowd.gateway.memory()
        asking = crowd.load(options.rate, 600, crowd.folder / "load.json")
        try:
            result["fresh"] = fresh(crowd, times, network=2)
        finally:
            asking.terminate()
            asking.wait()
    return result
