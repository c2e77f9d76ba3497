"""Measures how long a guest's hugepages take: to be taken from the kernel, and to be filled.

    python3 prealloc.py MIB RUNS THREADS

Runs by itself, as root, on this machine or on the virtual host, with Python's library alone. The
pages of 2 MiB are taken anew in every round, and given back at the end. Prints JSON: seconds of
each run by way, `qemu` (its version). Exit status 3, with a reason on stderr, where the pages
cannot be had.

    take      the pages are made free: written to nr_hugepages, with compaction until all are there
    populate  a process that maps them with MAP_POPULATE: the kernel clears them, in one thread
    off       QEMU that is told to quit before its CPUs run, and has touched nothing
    N         the same with the memory filled by N threads (prealloc-threads=N)
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
VM = Path("/proc/sys/vm")
PAGE_MIB = 2
PATIENCE = 20.0
QEMU = "qemu-system-x86_64"
POPULATE = """
import mmap, sys
MAP_HUGETLB = 0x40000
flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE | MAP_HUGETLB
mmap.mmap(-1, int(sys.argv[1]) << 20, flags=flags)
"""


def take(goal: int) -> float:
    """Grows the pool to so many pages; the seconds that it took."""
    begin = time.perf_counter()
    while True:
        POOL.write_text(str(goal))
        there = int(POOL.read_text())
        seconds = time.perf_counter() - begin
        if there >= goal:
            return seconds
        if seconds > PATIENCE:
            print(f"{there} of {goal} hugepages of 2 MiB could be had", file=sys.stderr)
            sys.exit(3)
        (VM / "drop_caches").write_text("3")
        (VM / "compact_memory").write_text("1")


def command(*argv: str, stdin: str = "") -> float:
    """Seconds from a command's start to its end."""
    begin = time.perf_counter()
    subprocess.run(argv, check=True, text=True, input=stdin, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def qemu(mib: int, how: str) -> float:
    """A QEMU with so much memory in hugepages that quits before its CPUs run."""
    memory = f"memory-backend-memfd,id=ram,size={mib}M,hugetlb=on,hugetlbsize=2M,{how}"
    machine = ["-nodefaults", "-machine", "q35,memory-backend=ram", "-m", str(mib)]
    control = ["-display", "none", "-monitor", "stdio", "-S"]
    return command(QEMU, *machine, *control, "-object", memory, stdin="quit\n")


def main(mib: int, runs: int, threads: list[int]) -> None:
    """Measure all ways in turns, after one round that does not count."""
    before, pages = int(POOL.read_text()), mib // PAGE_MIB
    ways: dict[str, Callable[[], float]] = {
        "populate": lambda: command(sys.executable, "-c", POPULATE, str(mib)),
        "off": lambda: qemu(mib, "prealloc=off"),
    }
    for count in threads:
        ways[str(count)] = partial(qemu, mib, f"prealloc=on,prealloc-threads={count}")
    found: dict[str, list[float]] = {name: [] for name in ("take", *ways)}
    names = list(ways)
    try:
        for number in range(1 + runs):
            POOL.write_text(str(before))
            results = {"take": take(before + pages)}
            first = number % len(names)
            for name in names[first:] + names[:first]:
                results[name] = ways[name]()
            if number:
                for name, seconds in results.items():
                    found[name].append(round(seconds, 4))
    finally:
        POOL.write_text(str(before))
    version = subprocess.run([QEMU, "--version"], check=True, text=True, capture_output=True)
    print(json.dumps({"seconds": found, "qemu": version.stdout.split("\n")[0]}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [int(word) for word in sys.argv[3].split(",")])
