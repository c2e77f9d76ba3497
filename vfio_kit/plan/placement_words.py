"""PURE: the findings about a guest's place on the host."""

from collections.abc import Iterable, Mapping, Sequence

from vfio_kit.knowledge.findings import (
    MEMORY_CROSSES,
    MORE_VCPUS_THAN_CPUS,
    NO_ROOM,
    PAGES_TO_ADD,
    VCPUS_CROSS,
    VCPUS_SHARE,
    finding,
)
from vfio_kit.model import Finding, NumaNode, PciAddress
from vfio_kit.model.placement import PAGE_SIZES
from vfio_kit.plan.cores import cpu_list
from vfio_kit.plan.nodes import Room


def memory_crosses(
    gpu: PciAddress | None,
    page_kib: int | None,
    home: int,
    have: Mapping[int, int],
    chosen: Sequence[int],
) -> Finding:
    """`have`: what each node has, in pages or MiB."""
    room = _mib(have.get(home, 0), page_kib)
    others = _nodes([node for node in chosen if node != home])
    rest = "the rest of it" if home in chosen else "all of it"
    return finding(
        MEMORY_CROSSES,
        gpu,
        f"NUMA node {home} has room for {room} MiB of the guest's memory: {rest} is on {others}, "
        "across the link between the nodes",
        f"--memory {room} stays on node {home}; or make room there"
        if room
        else f"make room on node {home}, or reserve hugepages there at boot",
    )


def no_room(gpu: PciAddress | None, memory_mib: int, page_kib: int | None, have: int) -> Finding:
    kind = f" in hugepages of {_words(page_kib)}" if page_kib else ""
    return finding(
        NO_ROOM,
        gpu,
        f"the guest takes {memory_mib} MiB{kind}, and the host could give {_mib(have, page_kib)} "
        "MiB now",
        "give it less with --memory, or end what holds the memory: ps aux --sort -rss | head",
    )


def pages_to_add(
    gpu: PciAddress | None,
    page_kib: int,
    shares: Mapping[int, int],
    have: Mapping[int, Room],
    nodes: Iterable[NumaNode],
) -> list[Finding]:
    """`shares`: node -> pages of the guest on it. Nothing where all of them are free already."""
    missing = {node: max(0, count - have[node].free) for node, count in shares.items()}
    if not any(missing.values()):
        return []
    there = {node.number: node.hugepages.get(page_kib, (0, 0))[0] for node in nodes}
    size = next(size for size in PAGE_SIZES.values() if size.kib == page_kib)
    wanted = ",".join(f"{node}:{there[node] + more}" for node, more in missing.items() if more)
    parts = [f"{more} on node {node}" for node, more in missing.items() if more]
    return [
        finding(
            PAGES_TO_ADD,
            gpu,
            f"of the guest's {sum(shares.values())} hugepages of {size.words} have to be added: "
            f"{' and '.join(parts)}",
            f"to have them from boot on: hugepagesz={size.name} hugepages={wanted} on the kernel "
            "command line",
        )
    ]


def vcpus_cross(
    gpu: PciAddress | None, vcpus: int, home: int, room: int, nodes: Sequence[int]
) -> Finding:
    """`room`: CPUs of the home node that the guest could have; `nodes`: where the vCPUs are."""
    others = _nodes([node for node in nodes if node != home])
    return finding(
        VCPUS_CROSS,
        gpu,
        f"NUMA node {home} has {room} CPUs for the guest's {vcpus} vCPUs: "
        f"{'some' if home in nodes else 'all'} run on {others}, across the link between the nodes",
        f"--cpus {room} stay on node {home}" if room else f"--no-pin, or free cores on node {home}",
    )


def vcpus_share(
    gpu: PciAddress | None,
    vcpus: int,
    nodes: Sequence[int],
    room: int,
    cpus: Iterable[int],
    everywhere: bool,
) -> Finding:
    """`room`: CPUs of cores that the guest could have for itself; `cpus`: what it floats on."""
    where = "all CPUs of the host" if everywhere else f"CPUs {cpu_list(cpus)} of {_nodes(nodes)}"
    return finding(
        VCPUS_SHARE,
        gpu,
        f"{vcpus} vCPUs do not find cores of their own: without the host's and those of other VMs "
        f"{room} CPUs are left near the GPU; they float over {where}",
        f"--cpus {room} would have their own" if room else "end a VM that has cores: vfio-kit list",
    )


def more_vcpus(gpu: PciAddress | None, vcpus: int, online: int) -> Finding:
    return finding(
        MORE_VCPUS_THAN_CPUS,
        gpu,
        f"{vcpus} vCPUs are more than the {online} CPUs of the host",
        f"--cpus {max(1, online - 1)} or fewer",
    )


def _nodes(nodes: Sequence[int]) -> str:
    words = " and ".join(map(str, nodes))
    return f"node {words}" if len(nodes) == 1 else f"nodes {words}"


def _mib(count: int, page_kib: int | None) -> int:
    return count * page_kib // 1024 if page_kib else count


def _words(page_kib: int) -> str:
    return next(size.words for size in PAGE_SIZES.values() if size.kib == page_kib)
