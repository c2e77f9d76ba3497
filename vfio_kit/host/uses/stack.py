"""What lies between a PCI function and what the host uses it for: partitions, arrays, bonds."""

from collections.abc import Iterable, Mapping

from vfio_kit.errors import UsageError
from vfio_kit.host.public import HIDDEN
from vfio_kit.model import PciAddress

Stack = Mapping[PciAddress, tuple[str, ...]]
"""The functions at the bottom, each with the names of what lies above it, from the bottom up."""

DEEPEST = 32
"""Layers. Real stacks have a handful: partition, array, encryption, volume, loop device, again."""

_MOST_NAMES = 8
"""Of what lies side by side, of a hundred disks, the first few tell enough; and, apart from them,
of what is told with its kind: the array that the hundred disks make up."""


def merged(stacks: Iterable[Stack]) -> Stack:
    """Several stacks as one: all their functions, and what lies above each in any of them."""
    names: dict[PciAddress, dict[str, None]] = {}
    for stack in stacks:
        for address, above in stack.items():
            names.setdefault(address, {}).update(dict.fromkeys(above))
    return {address: _shortened(tuple(above)) for address, above in names.items()}


def _shortened(names: tuple[str, ...]) -> tuple[str, ...]:
    kept: list[str] = []
    room = {True: _MOST_NAMES, False: _MOST_NAMES}
    for name in names:
        with_kind = name.endswith(")")
        room[with_kind] -= 1
        if room[with_kind] >= 0:
            kept.append(name)
        elif HIDDEN not in kept:
            kept.append(HIDDEN)
    return tuple(kept)


def on_top(stack: Stack, name: str) -> Stack:
    """The stack with one more layer."""
    return {address: above if name in above else (*above, name) for address, above in stack.items()}


def function_above(path: str) -> PciAddress | None:
    """The nearest PCI function in a path of /sys/devices; None for a device without one."""
    for part in reversed(path.split("/")):
        # With its domain, as sysfs writes it: there are other names with dots and colons.
        if part.count(":") == 2 and part[-2:-1] == ".":
            try:
                return PciAddress.parse(part)
            except UsageError:
                continue
    return None
