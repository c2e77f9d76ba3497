"""How long QEMU takes to zero a guest's hugepages before it starts, by one thread and by several.

libvirt's <allocation mode='immediate' threads='N'/> is QEMU's prealloc-threads. Bound: one thread
for each CPU, up to four, takes at most 1.5 times what one thread alone takes, on a machine that may
be busy. Needs root, QEMU, and memory that the kernel can put together; says which is missing.
"""

import os
import shutil
import sys
from collections.abc import Iterator

from benchmarks.measure import Measured, measure
from benchmarks.table import Row
from vfio_kit.apply import hugepages
from vfio_kit.errors import HostError
from vfio_kit.model.vm import Hugepages

_MIB = 2048
_QEMU = "qemu-system-x86_64"
_SLOWER = 1.5
_MOST_THREADS = 4


def rows(runs: int) -> Iterator[Row]:
    """The floor is a QEMU that starts without memory to zero, and ends."""
    if os.geteuid() != 0 or shutil.which(_QEMU) is None:
        print(f"prealloc: not measured, it needs root and {_QEMU}", file=sys.stderr)
        return
    try:
        data = hugepages.prepare(Hugepages(2048, _MIB // 2, 1), None)
        hugepages.take(data)
    except HostError as error:
        print(f"prealloc: not measured, {error.message}", file=sys.stderr)
        return
    try:
        yield from _rows(runs)
    finally:
        hugepages.give_back(data)


def _rows(runs: int) -> Iterator[Row]:
    floor = _qemu("prealloc=off", runs)
    yield Row("QEMU, nothing zeroed", floor, "the floor")
    one = _threads(1, runs)
    yield Row(f"QEMU, {_MIB >> 10} GiB zeroed, 1 thread", one, _speed(one, floor))
    several = min(len(os.sched_getaffinity(0)), _MOST_THREADS)
    if several > 1:
        many = _threads(several, runs)
        yield Row(
            f"the same, {several} threads",
            many,
            f"{_speed(many, floor)}; at most {_SLOWER} x one thread",
            holds=many.median <= _SLOWER * one.median,
        )


def _threads(count: int, runs: int) -> Measured:
    return _qemu(f"prealloc=on,prealloc-threads={count}", runs)


def _speed(measured: Measured, floor: Measured) -> str:
    seconds = max(measured.median - floor.median, 1e-6)
    return f"{_MIB / 1024 / seconds:.1f} GiB/s"


def _qemu(how: str, runs: int) -> Measured:
    """A QEMU with so much memory in hugepages that is told to quit before its CPUs run."""
    memory = f"memory-backend-memfd,id=ram,size={_MIB}M,hugetlb=on,hugetlbsize=2M,{how}"
    command = (
        f"echo quit | {_QEMU} -nodefaults -machine q35,memory-backend=ram -m {_MIB} "
        f"-display none -monitor stdio -S -object {memory}"
    )
    return measure([shutil.which("sh") or "/bin/sh", "-c", command], runs)
