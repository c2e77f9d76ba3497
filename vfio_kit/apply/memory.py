"""Whether the memory of a guest is there, and what libvirt needs to give it."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from vfio_kit.apply.hugepages import ANY, boot_parameters, pool_size, prepare
from vfio_kit.errors import HostError
from vfio_kit.model import NumaNode
from vfio_kit.model.placement import Claim, Hugepages
from vfio_kit.model.vm import DomainPlan

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
    meminfo = root / "proc/meminfo"
    available, there = _mib(meminfo, "MemAvailable"), _mib(meminfo, "MemTotal")
    total = sum(needed.values())
    kind = "hugepages" if domain.hugepages else "memory"
    if total + HOST_RESERVE_MIB > available:
        hint = "give it less with --memory, or end what holds the memory: ps aux --sort -rss | head"
        if domain.hugepages and total + HOST_RESERVE_MIB <= there:
            hint += f"; or reserve them at boot: {_reservation(domain.hugepages, needed, root)}"
        raise HostError(
            f"the guest takes {total} MiB more of {kind}, {HOST_RESERVE_MIB} MiB stay for the "
            f"host, and only {available} MiB are available",
            hint,
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
            raise HostError(
                f"the guest takes {mib} MiB more of hugepages on node {node}, and only {room} MiB "
                f"are available there ({_words(nodes)})",
                "give it less with --memory, or another --numa-node, or reserve them at boot: "
                + _reservation(pages, needed, root),
            )


def _reservation(pages: Hugepages, needed: Mapping[str, int], root: Path) -> str:
    """What reserves the pools as they are, and what is missing, when the host starts."""
    pools = {
        node: pool_size(pages.size_kib, node, root) + (mib << 10) // pages.size_kib
        for node, mib in needed.items()
    }
    return boot_parameters(pools, pages.size_kib, os.uname().release)


def _mib(meminfo: Path, key: str) -> int:
    """A line of /proc/meminfo; of MemAvailable what is free and what the kernel can make free."""
    try:
        text = meminfo.read_text()
    except OSError as error:
        raise HostError(f"cannot read {meminfo}: {error.strerror}") from None
    match = re.search(rf"(?m)^{key}: +([0-9]+) kB$", text)
    if match is None:
        raise HostError(f"{meminfo} has no {key}")
    return int(match[1]) >> 10


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
            "systemctl restart libvirtd\n"
            f"or from the next boot on: kernel parameter default_hugepagesz={sizes[0]}, with which "
            "systemd mounts /dev/hugepages",
        )
