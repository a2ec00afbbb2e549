"""The programs of a measurement: started on free ports, asked for what they used, stopped by their process ids."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = ROOT / "target/static"
HOST = subprocess.run(["rustc", "--print", "host-tuple"], check=True, capture_output=True, text=True).stdout.strip()
BARE = ROOT / "target/ceiling" / HOST / "release"
DRIVE = pathlib.Path(__file__).with_name("drive.lua")
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def until(what, condition, seconds=60):
    """Asks until the condition gives something; the time is only for what never comes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if result := condition():
            return result
        time.sleep(0.01)  # the interval of a poll
    raise SystemExit(f"bench: not within {seconds} s: {what}")


def get(port, path):
    """The status and the body of one answer; none when nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return None


class Program:
    """A running program; `wrapped` is what it runs under, such as valgrind."""

    def __init__(self, folder, command, port, wrapped=(), debug=None):
        self.port, self.debug = port, debug
        self.name = pathlib.Path(command[0]).name
        self.log = folder / f"{self.name}-{port}.log"
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([*wrapped, *map(str, command)], stdout=log, stderr=log, cwd=folder)
        self.pid = self.process.pid

    def _is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"bench: {self.name} ended:\n{self.log.read_text()}")
        if self.debug:
            return (get(self.debug, "/readyz") or (0,))[0] == 200
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def ready(self):
        until(f"{self.name} is ready", self._is_ready)
        return self

    def cpu(self):
        """Seconds of processor time so far, of all threads, in user and kernel."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self, what="VmRSS"):
        """Resident bytes."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) * 1024

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Scene:
    """A registry and whatever is started in it, all ended with it."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
        self.programs = []
        client, peer = free_port(), free_port()
        self.registry = f"http://127.0.0.1:{client}"
        urls = [f"--listen-client-urls={self.registry}", f"--advertise-client-urls={self.registry}"]
        urls += [f"--listen-peer-urls=http://127.0.0.1:{peer}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}"]
        command = ["etcd", f"--data-dir={self.folder}/etcd", f"--initial-cluster=default=http://127.0.0.1:{peer}", *urls]
        self._start(command, client)
        until("etcd is healthy", lambda: (get(client, "/health") or (0,))[0] == 200)

    def _start(self, command, port, **options):
        self.programs.append(Program(self.folder, command, port, **options))
        return self.programs[-1].ready()

    def ours(self, name, *flags, port=None, **options):
        """One of our commands, ready; on a free port, if not said otherwise."""
        port, debug = port or free_port(), free_port()
        addr = "-http.addr" if name == "apigateway" else "-addr"
        command = [OURS / name, f"{addr}=127.0.0.1:{port}", f"-debug.addr=127.0.0.1:{debug}"]
        command += [f"-etcd.addr={self.registry}", *flags]
        return self._start(command, port, debug=debug, **options)

    def bare(self, name, *others, **options):
        """One of the bare programs, ready."""
        port = free_port()
        others = [f"127.0.0.1:{other.port}" for other in others]
        return self._start([BARE / name, f"127.0.0.1:{port}", *others], port, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for program in reversed(self.programs):
            program.stop()
        shutil.rmtree(self.folder)


FEEDS = "/api/feed/get_feeds?user_id=123&&size=2"
PROFILE = "/api/profile/get_profile?user_id=123"
CREATE = "/api/feed/create_feed"
FEED = '{"id": 100, "user_id": 123, "content": "hello world"}'


def put(port, path, **fields):
    """Stores something, which must be answered by 200."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(fields).encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


def fill(port, profile=False):
    """What is read later."""
    put(port, CREATE, id=100, user_id=123, content="hello world")
    put(port, CREATE, id=101, user_id=123, content="hello world")
    if profile:
        put(port, "/api/profile/create_profile", user_id=123, name="Ann", company="Acme", title="engineer")


def fill_many(port, users, per_user, text):
    """Stores `per_user` feeds of each user with texts of so many bytes, in the order of their ids."""
    command = ["wrk", "-t1", "-c32", "-d600s", "-s", DRIVE, f"http://127.0.0.1:{port}{CREATE}", "--", "FILL", users, per_user, text]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


def wrk(port, path, seconds, body=None, connections=32):
    """One closed-loop run: what wrk counted. Any answer but 200 ends the measurement."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", DRIVE, f"http://127.0.0.1:{port}{path}"]
    command += ["--", "PUT", body] if body else []
    text = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    result = json.loads(text[text.index("{") :])
    if result["errors"] or not result["requests"]:
        raise SystemExit(f"bench: {path} failed: {text}")
    return result


def load(folder, port, rate, seconds):
    """One open-loop run of our load generator: its latencies. Any answer but 200 ends the measurement."""
    out = folder / "load.json"
    command = [OURS / "load", f"-target=http://127.0.0.1:{port}", f"-path={FEEDS}", f"-rate={rate}", f"-duration={seconds}s",
               f"-json={out}"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    report = json.loads(out.read_text())
    if set(report["statuses"]) != {"200"} or report["broken"] or report["unsent"]:
        raise SystemExit(f"bench: the load failed: {report}")
    return report["reads"]


class Stage(Scene):
    """Our services with our gateway and the bare one before them, and a bare pair."""

    def __enter__(self):
        self.feed = self.ours("feed")
        self.profile = self.ours("profile")
        self.gateways = {"ours": self.ours("apigateway"), "bare": self.bare("bare-gateway", self.feed)}
        self.bare_feed = self.bare("bare-feed")
        self.gateways["bare_all"] = self.bare("bare-gateway", self.bare_feed)
        self.services = {"ours": self.feed, "bare": self.feed, "bare_all": self.bare_feed}
        fill(self.gateways["ours"].port, profile=True)
        fill(self.gateways["bare_all"].port)
        answers = {get(gateway.port, FEEDS) for gateway in self.gateways.values()}
        if len(answers) != 1 or next(iter(answers))[0] != 200:
            raise SystemExit(f"bench: the gateways do not answer the same: {answers}")
        return self

    def fronted(self, feed):
        """A feed service with records, and a bare gateway before it."""
        front = self.bare("bare-gateway", feed)
        fill(front.port)
        return feed, front


def stripped(binary):
    """A binary's bytes without symbols."""
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["strip", "-o", out.name, binary], check=True)
        return os.path.getsize(out.name)


def processor():
    names = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return names[0] if names else "unknown"
