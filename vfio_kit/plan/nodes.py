"""PURE: NUMA nodes in the order of their nearness, and which of them hold what is asked for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vfio_kit.model import NumaNode
from vfio_kit.model.placement import Claim

_LEAST_RESERVE_MIB, _MOST_RESERVE_MIB = 256, 2048
_FARTHEST = 255
"""ACPI's distance of what cannot be reached."""


def ranked(nodes: Iterable[NumaNode], near: Sequence[int]) -> tuple[int, ...]:
    """All nodes: those of `near`, then the others by their distance from the first of those."""
    known = {node.number: node for node in nodes}
    order = sorted(known)
    first = known.get(near[0]) if near else None

    def distance(number: int) -> int:
        row = first.distances if first else ()
        return row[order.index(number)] if len(row) == len(order) else _FARTHEST

    rest = [number for number in order if number not in near]
    return (*(n for n in near if n in known), *sorted(rest, key=lambda n: (distance(n), n)))


def fewest(ranking: Sequence[int], room: Mapping[int, int], need: int) -> tuple[int, ...] | None:
    """The first node of the ranking, and as few others as hold `need` with it.

    Of several such sets the one whose nodes come first in the ranking; without the first where that
    has no room at all. None where all of them do not hold it.
    """
    having = [number for number in ranking if room.get(number, 0) > 0]
    if sum(room[number] for number in having) < need:
        return None
    chosen = [number for number in ranking[:1] if number in having]
    rest = [number for number in having if number not in chosen]
    left = need - sum(room[number] for number in chosen)
    count = _how_many((room[number] for number in rest), left)
    for position, number in enumerate(rest):
        others = sorted((room[n] for n in rest[position + 1 :]), reverse=True)
        if count and room[number] + sum(others[: count - 1]) >= left:
            chosen.append(number)
            left, count = left - room[number], count - 1
    return tuple(chosen)


def _how_many(rooms: Iterable[int], need: int) -> int:
    """How many of these, the largest first, it takes to hold `need`."""
    count = 0
    for room in sorted(rooms, reverse=True):
        if need <= 0:
            break
        need -= room
        count += 1
    return count


@dataclass(frozen=True, slots=True)
class Room:
    """What a node has for a guest: pages of one size, those that are free already among them."""

    free: int
    more: int
    """Pages that could be made of the node's free memory, or of its files' pages."""

    @property
    def pages(self) -> int:
        return self.free + self.more


def rooms(
    nodes: Iterable[NumaNode], page_kib: int | None, claims: Iterable[Claim]
) -> dict[int, Room]:
    """For each node what it has, in pages of `page_kib`, or in MiB where that is None.

    Without what other VMs are about to take, and without a reserve for the host: a sixteenth of the
    node's memory, at least 256 MiB and at most 2 GiB. Of a node whose memory cannot be told its
    free hugepages count alone.
    """
    unit = page_kib or 1024
    taken: dict[int, int] = {}
    for claim in claims:
        for number, mib in claim.memory_mib:
            taken[number] = taken.get(number, 0) + -(-mib * 1024 // unit)
    found = {}
    for node in nodes:
        free = node.hugepages.get(page_kib, (0, 0))[1] if page_kib else 0
        more = max(0, (node.free_mib or 0) - _reserve(node)) * 1024 // unit
        claimed = taken.get(node.number, 0)
        left = max(0, free - claimed)
        found[node.number] = Room(left, max(0, more - max(0, claimed - free)))
    return found


def _reserve(node: NumaNode) -> int:
    total = node.memory_mib or 0
    return min(_MOST_RESERVE_MIB, max(_LEAST_RESERVE_MIB, total // 16))


def without_guests(nodes: Iterable[NumaNode], page_kib: int | None) -> dict[int, int]:
    """For each node the pages, or MiB, that it could have at most: nobody but the host there."""
    unit = page_kib or 1024
    return {n.number: max(0, (n.memory_mib or 0) - _reserve(n)) * 1024 // unit for n in nodes}
