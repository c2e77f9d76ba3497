"""CPUs and NUMA nodes, as sysfs tells them."""

import re
from collections.abc import Iterator

from vfio_kit.host.tree import Tree
from vfio_kit.model import Cpu, NumaNode

_NODES = "sys/devices/system/node"
_CPUS = "sys/devices/system/cpu"
_NODE = re.compile(r"node([0-9]{1,4})")
_PAGE_SIZE = re.compile(r"hugepages-([0-9]{1,9})kB")
_MOST_PAGES = 9_999_999_999
_RANGES = re.compile(r"([0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*)?")
_MOST_CPUS = 8192
"""NR_CPUS of x86 at most (arch/x86/Kconfig); no other architecture takes more."""
_MEMORY = re.compile(r"(?m)^Node [0-9]+ (\w+(?:\(file\))?): +([0-9]{1,15}) kB$")
_CORE = re.compile(r"([0-9,-]+) node ([0-9]{1,4}) package ([0-9]{1,5})( isolated)?")


def read_nodes(tree: Tree) -> tuple[NumaNode, ...]:
    """All NUMA nodes by their numbers: hugepages of every size, memory, distances."""
    numbers = (_NODE.fullmatch(name) for name in tree.names(_NODES))
    return tuple(_node(tree, number) for number in sorted(int(m[1]) for m in numbers if m))


def _node(tree: Tree, number: int) -> NumaNode:
    """A node; free_mib is MemFree and the page cache, less what of it waits to be written.

    The kernel makes a page of the cache free when a hugepage wants its place. What cannot be told
    to be free is not counted: slab caches, and the ARC of ZFS.
    """
    folder = f"{_NODES}/node{number}"
    kib = {key: int(value) for key, value in _MEMORY.findall(tree.text(f"{folder}/meminfo") or "")}
    cache = kib.get("Active(file)", 0) + kib.get("Inactive(file)", 0)
    unwritten = kib.get("Dirty", 0) + kib.get("Writeback", 0)
    total, free = kib.get("MemTotal"), kib.get("MemFree")
    return NumaNode(
        number,
        _hugepages(tree, f"{folder}/hugepages"),
        None if total is None else total >> 10,
        None if free is None else (free + max(0, cache - unwritten)) >> 10,
        _distances(tree, f"{folder}/distance"),
    )


def _distances(tree: Tree, name: str) -> tuple[int, ...]:
    text = tree.text(name) or ""
    if re.fullmatch(r"([0-9]{1,3}( +|$))*", text) is None:
        tree.note(name, f"holds {text[:40]!r}, not distances")
        return ()
    return tuple(map(int, text.split()))


def _hugepages(tree: Tree, folder: str) -> dict[int, tuple[int, int]]:
    pages = {}
    for match in filter(None, map(_PAGE_SIZE.fullmatch, tree.names(folder))):
        there = tree.number(f"{folder}/{match[0]}/nr_hugepages", base=10, most=_MOST_PAGES)
        free = tree.number(f"{folder}/{match[0]}/free_hugepages", base=10, most=_MOST_PAGES)
        if there is not None and free is not None:
            pages[int(match[1])] = (there, free)
    return dict(sorted(pages.items()))


def read_cpus(tree: Tree) -> tuple[Cpu, ...]:
    """The CPUs that are online, by their numbers; empty where sysfs does not tell.

    A snapshot keeps them as one text, a line for each core.
    """
    text = tree.extract("cpus", lambda: "\n".join(_cores(tree))) or ""
    known: dict[int, Cpu] = {}
    for line in text.splitlines():
        match = _CORE.fullmatch(line)
        siblings = _numbers(tree, "extracts/cpus", match[1]) if match else frozenset()
        if match is None or not siblings or siblings & known.keys():
            tree.note("extracts/cpus", f"holds {line[:60]!r}, no core of its own")
            break
        one = tuple(sorted(siblings))
        rest = int(match[2]), int(match[3]), match[4] is not None
        known |= {number: Cpu(number, one, *rest) for number in one}
    return tuple(known[number] for number in sorted(known))


def _cores(tree: Tree) -> Iterator[str]:
    """Lines of `0,64 node 0 package 0`, a file read for each: there may be hundreds of cores."""
    online, isolated = _list(tree, f"{_CPUS}/online"), _list(tree, f"{_CPUS}/isolated")
    nodes = _node_of_cpus(tree)
    packages: dict[int, int] = {}
    left = set(online)
    for cpu in sorted(online):
        if cpu not in left:
            continue
        topology = f"{_CPUS}/cpu{cpu}/topology"
        # The first name is that of Linux 5.3 and later.
        siblings = _list(tree, f"{topology}/core_cpus_list")
        siblings = siblings or _list(tree, f"{topology}/thread_siblings_list")
        core = (siblings | {cpu}) & left
        left -= core
        if cpu not in packages:
            number = tree.number(f"{topology}/physical_package_id", base=10) or 0
            peers = _list(tree, f"{topology}/core_siblings_list") | {cpu}
            packages |= dict.fromkeys(peers, max(0, number))
        words = ",".join(map(str, sorted(core)))
        alone = " isolated" if core & isolated else ""
        yield f"{words} node {nodes.get(cpu, 0)} package {packages[cpu]}{alone}"


def _node_of_cpus(tree: Tree) -> dict[int, int]:
    """CPU -> its node; empty where the kernel knows no nodes."""
    numbers = (_NODE.fullmatch(name) for name in tree.names(_NODES))
    return {
        cpu: int(match[1])
        for match in numbers
        if match
        for cpu in _list(tree, f"{_NODES}/{match[0]}/cpulist")
    }


def _list(tree: Tree, name: str) -> frozenset[int]:
    """The CPUs of a list such as 0-3,8; none where there is no such file."""
    text = tree.text(name)
    return frozenset() if text is None else _numbers(tree, name, text)


def _numbers(tree: Tree, name: str, text: str) -> frozenset[int]:
    ends = []
    if _RANGES.fullmatch(text) is not None:
        words = (word.partition("-") for word in text.split(",") if word)
        ends = [(int(first), int(last or first)) for first, _, last in words]
    # Their sum as well: ranges that are there again and again would take long to add up.
    many = sum(max(0, last - first) + 1 for first, last in ends) > _MOST_CPUS
    if many or any(last >= _MOST_CPUS for _, last in ends) or (text and not ends):
        tree.note(name, f"holds {text[:40]!r}, not a list of CPUs")
        return frozenset()
    return frozenset(cpu for first, last in ends for cpu in range(first, last + 1))
