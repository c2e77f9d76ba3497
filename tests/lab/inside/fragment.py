"""Holds memory so that no 2 MiB of it are free in one piece: `fragment.py CPU MIB`.

It is touched on CPU, and so comes from that CPU's node; then all of it is given back, but a page in
each MiB. It says "ready", and lets go when its standard input ends.
"""

import mmap
import os
import sys

PAGE = 4096
MIB = 1 << 20


def main() -> None:
    """Take, give back, wait."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    size = int(sys.argv[2]) * MIB
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for offset in range(0, size, MIB):
        memory[offset : offset + MIB] = b"x" * MIB
    for offset in range(0, size, MIB):
        memory.madvise(mmap.MADV_DONTNEED, offset + PAGE, MIB - PAGE)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
