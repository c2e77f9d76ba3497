"""Hugepages: what is free is used, what is missing is added, and only that is given back.

On a host with several nodes each node has a pool of its own, and the guest's memory comes from
those of the plan. Paths and their meaning: Documentation/admin-guide/mm/hugetlbpage.rst of Linux.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vfio_kit.apply.boot import boot_id
from vfio_kit.errors import HostError
from vfio_kit.model.placement import Claim, Hugepages, Placement

Data = dict[str, Any]
"""What the journal keeps of it: `size_kib`, `boot`, and for each node, by its number or "any",
`count` pages that are to be added to the `before` that belong to nobody of ours."""

Look = Callable[[], tuple[int, int]]
"""Gives how many pages there are of how many, whenever it is called."""

ANY = "any"
"""The host's one pool over all nodes, where the placement names none."""
_PATIENCE = 20.0
"""Seconds without one more page, after which the kernel is not asked again."""
_PAUSE = 0.2
_POOLS = "sys/kernel/mm/hugepages"
_NODES = "sys/devices/system/node"
_PER_NODE_SINCE = (5, 16)
"""The release whose `hugepages=` takes nodes: Linux, commit b5389086ad7b."""


def prepare(
    pages: Hugepages,
    placement: Placement | None,
    *,
    claims: Iterable[Claim] = (),
    others: Iterable[Mapping[str, Any]] = (),
    root: Path = Path("/"),
) -> Data:
    """How many pages each pool must grow by, so that those of the plan are free. Changes nothing.

    claims  of other VMs: what they will take of the free pages is not free.
    others  the same step's data of other VMs, as long as it is not undone: what they added does not
            belong to those that were there before.

    Raises HostError for a page size or a node that this host has not.
    """
    boot, size = boot_id(root), pages.size_kib
    wanted = dict(placement.pages) if placement and placement.pages else {ANY: pages.count}
    promised, added = _promised(claims, size), _added(others, size, boot)
    nodes = {}
    for node, count in ((str(name), count) for name, count in wanted.items()):
        free = _free(root, size, node) - promised.get(node, 0)
        before = pool_size(size, node, root) - added.get(node, 0)
        nodes[node] = {"count": max(0, count - max(0, free)), "before": max(0, before)}
    return {"size_kib": size, "boot": boot, "nodes": nodes}


def take(data: Data, root: Path = Path("/"), patience: float = _PATIENCE) -> None:
    """Adds the pages; compacts a node's memory and asks again where the kernel gives fewer.

    Raises HostError, with all pools as they were, where they cannot be had: it names what each node
    has, and the kernel parameters that would reserve them.
    """
    size, pools = data["size_kib"], data["nodes"]
    there = {**{node: _pool(root, size, node) for node in pools}, **_node_pools(root, size)}
    begun = {node: _Pool.read(folder) for node, folder in there.items()}
    asked = []
    try:
        for node in (node for node, pool in pools.items() if pool["count"]):
            asked.append(node)
            count = pools[node]["count"]
            if (got := _grow(root, size, node, begun[node].pages, count, patience)) < count:
                goal = {name: begun[name].pages + pools[name]["count"] for name in pools}
                raise _too_few(size, node, f"{got} of {count}", begun, goal)
    except HostError:
        for node in asked:
            _write(there[node] / "nr_hugepages", begun[node].pages)
        raise


def growth(data: Data, root: Path = Path("/")) -> Look:
    """To see how far `take` has come, from another thread; to be called before it begins."""
    pools = {
        _pool(root, data["size_kib"], node): pool["count"]
        for node, pool in data["nodes"].items()
        if pool["count"]
    }
    begun = {folder: _Pool.read(folder).pages for folder in pools}

    def look() -> tuple[int, int]:
        have = 0
        for folder, count in pools.items():
            with suppress(HostError):  # for the eye alone
                have += min(count, max(0, _Pool.read(folder).pages - begun[folder]))
        return have, sum(pools.values())

    return look


def give_back(data: Mapping[str, Any], root: Path = Path("/")) -> None:
    """Gives back what was added, pool by pool, and leaves what was there before.

    Pages that somebody else added meanwhile stay, and so does a pool that never grew. After another
    boot the pools are others, and what was added then is gone by itself.
    """
    if data["boot"] != boot_id(root):
        return
    # A journal of version 2 knows the host's one pool alone.
    nodes = data.get("nodes", {ANY: data})
    for node, pool in nodes.items():
        if not pool["count"]:
            continue
        file = _pool(root, data["size_kib"], node) / "nr_hugepages"
        now = _value(file)
        if now > pool["before"]:
            _write(file, max(pool["before"], now - pool["count"]))


def pool_size(size_kib: int, node: str = ANY, root: Path = Path("/")) -> int:
    """Pages in a pool, used or not."""
    return _value(_pool(root, size_kib, node) / "nr_hugepages")


def boot_parameters(pools: Mapping[str, int], size_kib: int, release: str) -> str:
    """What reserves pools of these sizes, by node or ANY, when the host starts."""
    size = _size_words(size_kib)
    if ANY in pools:
        return f"kernel parameters hugepagesz={size} hugepages={pools[ANY]}"
    if _version(release) >= _PER_NODE_SINCE:
        several = ",".join(f"{node}:{count}" for node, count in pools.items())
        return f"kernel parameters hugepagesz={size} hugepages={several}"
    early = "; ".join(
        f"echo {count} > /{_NODES}/node{node}/hugepages/hugepages-{size_kib}kB/nr_hugepages"
        for node, count in pools.items()
    )
    return f"a unit of systemd's, since hugepages= takes nodes from Linux 5.16 on alone: {early}"


def _version(release: str) -> tuple[int, ...]:
    words = release.partition("-")[0].split(".")[:2]
    return tuple(int(word) for word in words if word.isdecimal())


def _grow(root: Path, size_kib: int, node: str, begin: int, count: int, patience: float) -> int:
    """Asks for `count` pages more until they are there, or no more come; returns how many came."""
    file = _pool(root, size_kib, node) / "nr_hugepages"
    got, end = -1, 0.0
    for attempt in itertools.count():
        _write(file, begin + count)
        more = _value(file) - begin
        if more > got:
            got, end = more, time.monotonic() + patience
        if got >= count or time.monotonic() >= end:
            break
        if attempt == 0:
            _write(root / "proc/sys/vm/drop_caches", 3)
        _write(_compaction(root, node), 1)
        time.sleep(_PAUSE)
    return got


def _compaction(root: Path, node: str) -> Path:
    return root / ("proc/sys/vm/compact_memory" if node == ANY else f"{_NODES}/node{node}/compact")


@dataclass(frozen=True, slots=True)
class _Pool:
    """Pages in a pool, and how many of them nobody uses."""

    pages: int
    free: int

    @classmethod
    def read(cls, folder: Path) -> Self:
        return cls(_value(folder / "nr_hugepages"), _value(folder / "free_hugepages"))


def _too_few(
    size_kib: int, node: str, got: str, begun: dict[str, _Pool], goal: dict[str, int]
) -> HostError:
    """got: as in "3 of 8"; begun: the pools before; goal: those of the plan that would do."""
    where = "" if node == ANY else f" on node {node}"
    there = "; ".join(
        f"node {name} has {pool.pages} pages, {pool.free} free"
        for name, pool in sorted(begun.items())
        if name != ANY
    )
    return HostError(
        f"only {got} missing hugepages of {_size_words(size_kib)} could be made free{where}"
        + (f" ({there})" if there else ""),
        "use less --memory, or --hugepages off, or reserve them at boot: "
        + boot_parameters(goal, size_kib, os.uname().release),
    )


def _node_pools(root: Path, size_kib: int) -> dict[str, Path]:
    """The folders of all nodes' pools, where this kernel knows nodes."""
    folders = (root / _NODES).glob(f"node[0-9]*/hugepages/hugepages-{size_kib}kB")
    return {folder.parent.parent.name[4:]: folder for folder in folders}


def _free(root: Path, size_kib: int, node: str) -> int:
    """Free pages of a pool that nobody has reserved; reservations are the host's, of any node."""
    reserved = _value(_pool(root, size_kib, ANY) / "resv_hugepages")
    return _value(_pool(root, size_kib, node) / "free_hugepages") - reserved


def _promised(claims: Iterable[Claim], size_kib: int) -> dict[str, int]:
    """Pages that other VMs will take, by node, and all of them as ANY."""
    promised = {ANY: 0}
    for node, mib in (memory for claim in claims for memory in claim.memory_mib):
        count = -(-mib * 1024 // size_kib)
        promised[str(node)] = promised.get(str(node), 0) + count
        promised[ANY] += count
    return promised


def _added(others: Iterable[Mapping[str, Any]], size_kib: int, boot: str) -> dict[str, int]:
    """Pages that other VMs' steps added, by node, and all of them as ANY."""
    added = {ANY: 0}
    for data in others:
        if (data["size_kib"], data["boot"]) == (size_kib, boot):
            for node, pool in data["nodes"].items():
                added[ANY] += pool["count"]
                if node != ANY:
                    added[node] = added.get(node, 0) + pool["count"]
    return added


def _pool(root: Path, size_kib: int, node: str) -> Path:
    base = root / _POOLS if node == ANY else root / _NODES / f"node{node}" / "hugepages"
    if not base.is_dir() and node != ANY:
        raise HostError(f"this host has no NUMA node {node}", "vfio-kit plan chooses one anew")
    pool = base / f"hugepages-{size_kib}kB"
    if not pool.is_dir():
        raise HostError(
            f"this kernel has no hugepages of {size_kib} KiB",
            "use --hugepages 2M or off; 1G needs a CPU with the flag pdpe1gb",
        )
    return pool


def _size_words(size_kib: int) -> str:
    return "1G" if size_kib >= 1 << 20 else f"{size_kib >> 10}M"


def _value(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError) as error:
        raise HostError(f"cannot read a number from {path}: {error}") from None


def _write(path: Path, value: int) -> None:
    try:
        path.write_text(str(value))
    except OSError as error:
        raise HostError(f"cannot write {value} to {path}: {error.strerror}") from None
