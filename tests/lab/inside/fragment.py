"""Holds memory so that no 2 MiB of it are free in one piece: `fragment.py CPU MIB [locked]`.

It is touched on CPU, and so comes from that CPU's node; then all of it is given back, but a page in
each MiB, which is locked where that is asked for. It says "ready", and lets go when its standard
input ends.
"""

import ctypes
import mmap
import os
import sys

PAGE = 4096
MIB = 1 << 20


def lock(memory: mmap.mmap, offsets: range) -> None:
    """Lock the page at each offset."""
    libc = ctypes.CDLL(None, use_errno=True)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for offset in offsets:
        if libc.mlock(ctypes.c_void_p(begin + offset), ctypes.c_size_t(PAGE)):
            raise OSError(ctypes.get_errno(), "mlock")


def main() -> None:
    """Take, give back, wait."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    size = int(sys.argv[2]) * MIB
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for offset in range(0, size, MIB):
        memory[offset : offset + MIB] = b"x" * MIB
    if "locked" in sys.argv:
        lock(memory, range(0, size, MIB))
    for offset in range(0, size, MIB):
        memory.madvise(mmap.MADV_DONTNEED, offset + PAGE, MIB - PAGE)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
