"""Whether the memory of a guest is there, and what libvirt needs to give it."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from vfio_kit.apply.hugepages import ANY, boot_parameters, pool_size, prepare
from vfio_kit.errors import HostError
from vfio_kit.model import NumaNode
from vfio_kit.model.vm import Claim, DomainPlan, Hugepages

HOST_RESERVE_MIB = 256
"""What stays for the host, beside the guest."""


def require_memory(
    domain: DomainPlan,
    nodes: Iterable[NumaNode] = (),
    *,
    claims: Iterable[Claim] = (),
    root: Path = Path("/"),
) -> None:
    """Raises HostError where the host, or a node of the plan, has not the memory still to be taken.

    nodes   as they are now.
    claims  of other VMs: what they will take of the free hugepages is not free.

    VFIO pins all of a guest's RAM, with hugepages and without; HOST_RESERVE_MIB stay for the host.
    """
    claims = tuple(claims)
    needed = _needed(domain, claims, root)
    available = _available(root / "proc/meminfo")
    total = sum(needed.values())
    kind = "hugepages" if domain.hugepages else "memory"
    if total + HOST_RESERVE_MIB > available:
        raise HostError(
            f"the guest takes {total} MiB more of {kind}, {HOST_RESERVE_MIB} MiB stay for the "
            f"host, and only {available} MiB are available",
            "give it less with --memory, or end what holds the memory: ps aux --sort -rss | head",
        )
    _require_on_nodes(domain, needed, {node.number: node for node in nodes}, root)


def _needed(domain: DomainPlan, claims: tuple[Claim, ...], root: Path) -> dict[str, int]:
    """MiB still to be taken, by node or ANY."""
    pages = domain.hugepages
    if pages is None:
        return {ANY: domain.memory_mib}
    data = prepare(pages, domain.placement, claims=claims, root=root)
    return {node: pool["count"] * pages.size_kib >> 10 for node, pool in data["nodes"].items()}


def _require_on_nodes(
    domain: DomainPlan, needed: Mapping[str, int], nodes: Mapping[int, NumaNode], root: Path
) -> None:
    placement, pages = domain.placement, domain.hugepages
    free = {number: node.free_mib for number, node in nodes.items()}
    if pages is None:
        bound = placement.nodes if placement else ()
        rooms = [free.get(number) for number in bound]
        known = [room for room in rooms if room is not None]
        if bound and len(known) == len(rooms) and sum(known) < domain.memory_mib:
            where = " and ".join(map(str, bound))
            raise HostError(
                f"the guest's {domain.memory_mib} MiB come from node {where}, and only "
                f"{sum(known)} MiB are available there ({_words(nodes)})",
                "give it less with --memory, or end what holds the memory there: numastat -m",
            )
        return
    for node, mib in needed.items():
        room = None if node == ANY else free.get(int(node))
        if room is not None and mib > room:
            missing = {n: pool_size(pages.size_kib, n, root) for n in needed}
            goal = {n: (needed[n] << 10) // pages.size_kib + missing[n] for n in needed}
            raise HostError(
                f"the guest takes {mib} MiB more of hugepages on node {node}, and only {room} MiB "
                f"are available there ({_words(nodes)})",
                "give it less with --memory, or another --numa-node, or reserve them at boot: "
                + boot_parameters(goal, pages.size_kib, os.uname().release),
            )


def _available(meminfo: Path) -> int:
    """MemAvailable in MiB: free, and what the kernel can make free."""
    match = re.search(r"(?m)^MemAvailable: +([0-9]+) kB$", _text(meminfo))
    if match is None:
        raise HostError(f"{meminfo} does not say how much memory is available")
    return int(match[1]) >> 10


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise HostError(f"cannot read {path}: {error.strerror}") from None


def _words(nodes: Mapping[int, NumaNode]) -> str:
    """node 0 has 900 MiB; node 1 has 3000 MiB"""
    return "; ".join(
        f"node {number} has {'?' if node.free_mib is None else node.free_mib} MiB"
        for number, node in sorted(nodes.items())
    )


def require_mount(pages: Hugepages, mounts: Path = Path("/proc/mounts")) -> None:
    """Raises HostError where no hugetlbfs of this page size is mounted: libvirt needs one."""
    sizes = pages.size.mount_options
    options = [line.split()[3].split(",") for line in mounts.read_text().splitlines()
               if line.split()[2] == "hugetlbfs"]  # fmt: skip
    if not any(f"pagesize={size}" in several for several in options for size in sizes):
        folder = f"/dev/hugepages-{sizes[0]}"
        raise HostError(
            f"no hugetlbfs with pages of {sizes[0]} is mounted, and libvirt needs one",
            f"mkdir -p {folder}; mount -t hugetlbfs -o pagesize={sizes[0]} none {folder}; "
            "systemctl restart libvirtd",
        )
