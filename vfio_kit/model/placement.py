"""Nouns of where a VM runs: its pages, what it sees of CPUs, its place on the host, its claim."""

from dataclasses import dataclass

from vfio_kit.model.pci import PciAddress


@dataclass(frozen=True, slots=True)
class PageSize:
    """A size of hugepages: as a spec says it, in KiB, in words, and as a mount of hugetlbfs may."""

    name: str
    kib: int
    words: str
    mount_options: tuple[str, ...]


PAGE_SIZES: dict[str, PageSize] = {
    size.name: size
    for size in (
        PageSize("2M", 2048, "2 MiB", ("2M", "2048K")),
        PageSize("1G", 1024 * 1024, "1 GiB", ("1G", "1024M")),
    )
}


@dataclass(frozen=True, slots=True)
class Hugepages:
    """size in KiB, `count` pages of it, preallocated by `threads` threads."""

    size_kib: int
    count: int
    threads: int

    @property
    def size(self) -> PageSize:
        (found,) = (size for size in PAGE_SIZES.values() if size.kib == self.size_kib)
        return found


@dataclass(frozen=True, slots=True)
class CpuTopology:
    """What the guest sees of its CPUs; their product is their number."""

    sockets: int
    cores: int
    threads: int
    topoext: bool = False
    """An AMD guest is told of threads by this feature, which CPU model `host` leaves out (QEMU,
    target/i386/cpu.c: no_autoenable_flags)."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where on the host a VM runs: decided by plan/placement.py, and printed by the outputs.

    Empty tuples: left to the kernel, as on a host whose CPUs or nodes are not known.
    """

    topology: CpuTopology
    nodes: tuple[int, ...] = ()
    """NUMA nodes that its memory comes from, and from no other."""
    pages: tuple[tuple[int, int], ...] = ()
    """(node, hugepages on it), by node; they sum up to Hugepages.count. Empty: any node."""
    vcpus: tuple[tuple[int, ...], ...] = ()
    """For each vCPU, in order, the host CPUs that it may run on."""
    emulator: tuple[int, ...] = ()
    """The host CPUs of QEMU's own threads and of the I/O thread: none of the vCPUs' own."""
    shared: bool = False
    """The vCPUs float over CPUs that are not theirs alone, all of them over the same ones."""

    @property
    def cpus(self) -> frozenset[int]:
        """Host CPUs that the vCPUs have for themselves."""
        pinned = () if self.shared else self.vcpus
        return frozenset(cpu for pins in pinned for cpu in pins)


@dataclass(frozen=True, slots=True)
class Claim:
    """What another VM of vfio-kit has, or is about to have."""

    vm: str
    functions: frozenset[PciAddress] = frozenset()
    cpus: frozenset[int] = frozenset()
    memory_mib: tuple[tuple[int, int], ...] = ()
    """(node, MiB on it) that it will take and has not taken yet: none of a VM that runs."""
