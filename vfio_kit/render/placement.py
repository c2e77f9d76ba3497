"""PURE: a VM's place on its host, in the words of libvirt, QEMU, taskset and the kernel."""

from dataclasses import dataclass

from vfio_kit.model.vm import DomainPlan
from vfio_kit.plan.cores import cpu_list as cpu_list
from vfio_kit.plan.memlock import memlock_mib


@dataclass(frozen=True, slots=True)
class Pinning:
    """CPUs as lists of the kernel, as in 0-3,8; empty where the kernel decides."""

    vcpus: tuple[str, ...] = ()
    """For each vCPU, in order."""
    emulator: str = ""
    """QEMU's other threads, and that of the disk."""
    nodes: tuple[int, ...] = ()

    @property
    def nodeset(self) -> str:
        return cpu_list(self.nodes)


def pinning_of(domain: DomainPlan) -> Pinning:
    """What of a domain's placement is printed."""
    placement = domain.placement
    if placement is None:
        return Pinning()
    return Pinning(
        tuple(map(cpu_list, placement.vcpus)), cpu_list(placement.emulator), placement.nodes
    )


@dataclass(frozen=True, slots=True)
class Pool:
    """A file of sysfs that holds the number of hugepages of a size, and how many a VM takes."""

    path: str
    pages: int


def pools_of(domain: DomainPlan) -> tuple[Pool, ...]:
    """The pools that a domain's memory comes from: of its nodes, where it has some.

    https://docs.kernel.org/admin-guide/mm/hugetlbpage.html
    """
    pages = domain.hugepages
    if pages is None:
        return ()
    tail = f"hugepages/hugepages-{pages.size_kib}kB/nr_hugepages"
    by_node = domain.placement.pages if domain.placement else ()
    if not by_node:
        return (Pool(f"/sys/kernel/mm/{tail}", pages.count),)
    return tuple(
        Pool(f"/sys/devices/system/node/node{node}/{tail}", count) for node, count in by_node
    )


def memlock_kib(domain: DomainPlan) -> int:
    """The limit of locked memory (RLIMIT_MEMLOCK) that VFIO needs; 0 where no device goes."""
    return memlock_mib(domain) * 1024
