"""Counts that noise does not move: instructions and allocations by callgrind, system calls by strace."""

import collections
import re
import signal
import subprocess

from scene import until, wrk

ALLOCATING = {"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"}


def valgrind(folder, name):
    """What a program is wrapped in for callgrind: counting nothing until told to."""
    out = folder / f"callgrind-{name}.out"
    return out, ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]


def callgrind(program, front, out, path, seconds=6):
    """Instructions and allocations per request of a program that runs under valgrind(), asked through `front` if it is
    no gateway; ends the program."""
    port = (front or program).port
    wrk(port, path, 2)  # caches filled, label sets resolved
    control = lambda *words: subprocess.run(["callgrind_control", *words, str(program.pid)], check=True, capture_output=True)
    control("-i", "on")
    requests = wrk(port, path, seconds)["requests"]
    control("-i", "off")
    program.stop()
    instructions, allocations = read(out)
    return {"instructions": instructions / requests, "allocations": allocations / requests, "requests": requests}


def read(out):
    """The total of a callgrind file, and the calls of the allocator in it."""
    names, callee, total, allocations = {}, "", 0, 0
    for line in out.read_text().splitlines():
        if named := re.match(r"(?:fn|cfn)=(\(\d+\))(?: (.*))?", line):
            key, name = named.groups()
            names.setdefault(key, name)
            callee = names[key] if line.startswith("cfn") else ""
        elif line.startswith("calls=") and callee in ALLOCATING:
            allocations += int(line[6:].split()[0])
        elif line.startswith(("summary:", "totals:")):
            total = int(line.split()[1])
    return total, allocations


def syscalls(program, path, front=None, seconds=3):
    """System calls per request by name, of a program that runs as it is, asked through `front` if it is no gateway."""
    out = program.log.with_suffix(".strace")
    tracer = subprocess.Popen(["strace", "-f", "-c", "-o", out, "-p", str(program.pid)], stderr=subprocess.PIPE)
    until("strace is attached", lambda: b"attached" in tracer.stderr.readline())
    requests = wrk((front or program).port, path, seconds)["requests"]
    tracer.send_signal(signal.SIGINT)
    tracer.wait(30)
    counts = collections.Counter()
    for line in out.read_text().splitlines():
        words = line.split()
        if len(words) >= 5 and words[0][0].isdigit() and words[-1] != "total":
            counts[words[-1]] += int(words[3])
    return {name: count / requests for name, count in counts.most_common() if count / requests >= 0.005}
