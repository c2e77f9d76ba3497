"""PURE: which cores of the host the vCPUs of a guest get for themselves.

A core goes to one guest with all its siblings, since two guests on one core would slow each other
down, and see what the other does to its caches.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from vfio_kit.model import Cpu
from vfio_kit.model.placement import CpuTopology


@dataclass(frozen=True, slots=True)
class Core:
    """A core of the host: its logical CPUs that are online, in order, and its node."""

    cpus: tuple[int, ...]
    node: int
    isolated: bool = False


def cores_of(cpus: Iterable[Cpu]) -> tuple[Core, ...]:
    """The cores of these CPUs, by their first CPUs."""
    found = {Core(cpu.siblings, cpu.node, cpu.isolated) for cpu in cpus}
    return tuple(sorted(found, key=lambda core: core.cpus))


def host_cores(cores: Sequence[Core]) -> frozenset[Core]:
    """What the host keeps of cores in their order: of each node the first, better one that its
    scheduler uses.

    That of the host's first CPU is among them, of which Linux makes use that it makes of no other:
    on x86 it cannot be taken offline, and interrupts are there that nobody has moved.
    """
    first: dict[int, Core] = {}
    for core in sorted(cores, key=lambda core: core.isolated):
        first.setdefault(core.node, core)
    return frozenset(first.values())


def pinned(cores: Sequence[Core], vcpus: int) -> tuple[CpuTopology, tuple[tuple[int, ...], ...]]:
    """What the guest sees of its CPUs, and for each of them the host CPUs that it may run on.

    Of cores with the same number of siblings where there are enough, of the widest first: then the
    guest's threads are threads of the host. Else as they come, and the guest is told nothing of
    siblings. Raises ValueError where the cores have fewer CPUs than there are vCPUs.
    """
    for width in sorted({len(core.cpus) for core in cores}, reverse=True):
        alike = [core for core in cores if len(core.cpus) == width]
        if len(alike) * width >= vcpus:
            threads = _threads(width, vcpus)
            topology = CpuTopology(1, vcpus // threads, threads)
            return topology, tuple(islice(_pins(alike, vcpus), vcpus))
    if sum(len(core.cpus) for core in cores) < vcpus:
        raise ValueError(f"{len(cores)} cores are too few for {vcpus} vCPUs")
    return CpuTopology(1, vcpus, 1), tuple(islice(_pins(cores, vcpus), vcpus))


def cpu_list(cpus: Iterable[int]) -> str:
    """CPUs, or nodes, as the kernel lists them: 0-3,8."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and ranges[-1][-1] == cpu - 1:
            ranges[-1][1:] = [cpu]
        else:
            ranges.append([cpu])
    return ",".join("-".join(map(str, ends)) for ends in ranges)


def _threads(width: int, vcpus: int) -> int:
    """Threads of a guest's core: as many as the host's has, or a power of two that goes into it."""
    return next(n for n in (8, 4, 2, 1) if width % n == 0 and vcpus % n == 0)


def _pins(cores: Iterable[Core], vcpus: int) -> Iterator[tuple[int, ...]]:
    """Each core's CPUs, dealt out among the vCPUs that it gets; the last gets what is left."""
    left = vcpus
    for core in cores:
        here = min(left, len(core.cpus))
        if here == 0:
            return
        ends = [len(core.cpus) * number // here for number in range(here + 1)]
        yield from (core.cpus[a:b] for a, b in pairwise(ends))
        left -= here
