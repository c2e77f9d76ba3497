"""What the host uses its devices for: filesystems, swap, routes, the SSH session, keyboards.

What is found is told in lines of text, which a snapshot keeps in place of the files that it was
found in. So the text holds names of the kernel and well-known paths, and nothing of the owner's.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from vfio_kit.errors import UsageError
from vfio_kit.host.pci import DEVICES
from vfio_kit.host.public import HIDDEN, public_block, public_interface, without_mac
from vfio_kit.host.tree import Tree
from vfio_kit.host.uses.inputs import keyboard_uses
from vfio_kit.host.uses.network import Network, default_route_uses
from vfio_kit.host.uses.session import session_uses
from vfio_kit.host.uses.stack import merged
from vfio_kit.host.uses.storage import Storage
from vfio_kit.model import PciAddress, ReadProblem, Use, UseKind

_PROBLEM = "!"
_BETWEEN = "\t"
_AMONG = "|"
_MOST_BYTES = 48 * 1024
"""An extract is read back as sysfs attributes are, 64 KiB at most."""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def read_uses(tree: Tree) -> tuple[Use, ...]:
    """All uses, by device, each device and thing once."""
    network = Network(tree)
    finders: tuple[tuple[str, Callable[[], Iterable[Use]]], ...] = (
        ("storage", lambda: _storage_uses(tree, network)),
        ("network", lambda: default_route_uses(network)),
        ("session", lambda: session_uses(tree, network)),
        ("keyboard", lambda: keyboard_uses(tree)),
    )
    found = [use for name, find in finders for use in _extracted(tree, name, find)]
    return tuple(sorted(found, key=lambda use: (use.device, use.kind, use.what)))


def _storage_uses(tree: Tree, network: Network) -> Iterator[Use]:
    storage = Storage(tree, network)
    yield from storage.mount_uses()
    yield from storage.swap_uses()


def _extracted(tree: Tree, name: str, find: Callable[[], Iterable[Use]]) -> list[Use]:
    def compute() -> str:
        # What could not be read is a part of what was found, and is kept with it.
        noted = len(tree.problems)
        uses = _each_once(_with_physical_functions(tree, find()))
        problems = tree.problems[noted:]
        del tree.problems[noted:]
        return "\n".join((*map(_problem_line, problems), *_use_lines(uses)))

    path = f"extracts/uses-{name}"
    text = tree.extract(f"uses-{name}", compute) or ""
    return [use for line in text.splitlines() for use in _parsed(tree, path, line)]


def _with_physical_functions(tree: Tree, uses: Iterable[Use]) -> Iterator[Use]:
    """A virtual function is gone when its physical function goes: that has the use as well."""
    parents: dict[PciAddress, PciAddress | None] = {}
    for use in uses:
        if use.device not in parents:
            parents[use.device] = _physical_function(tree, use.device)
        parent = parents[use.device]
        if parent is None:
            yield use
            continue
        yield Use(use.device, use.kind, use.what, (f"virtual function of {parent}", *use.through))
        yield Use(parent, use.kind, use.what, (f"virtual function {use.device}", *use.through))


def _physical_function(tree: Tree, address: PciAddress) -> PciAddress | None:
    try:
        return PciAddress.parse(tree.link(f"{DEVICES}/{address}/physfn") or "")
    except UsageError:
        return None


def _each_once(uses: Iterable[Use]) -> list[Use]:
    """Several mounts may look the same from outside: /mnt/… and /mnt/…"""
    found: dict[tuple[PciAddress, UseKind, str], list[Use]] = {}
    for use in uses:
        found.setdefault((use.device, use.kind, use.what), []).append(use)
    return [
        Use(*key, merged({key[0]: use.through} for use in same)[key[0]])
        for key, same in sorted(found.items())
    ]


def _use_lines(uses: Iterable[Use]) -> Iterator[str]:
    """Address, kind, the things, what lies between; one line for things that lie on the same."""
    same: dict[tuple[PciAddress, UseKind, tuple[str, ...]], list[str]] = {}
    for use in uses:
        same.setdefault((use.device, use.kind, use.through), []).append(use.what)
    size = 0
    for (address, kind, through), things in same.items():
        line = _BETWEEN.join((str(address), kind, _AMONG.join(things), *through))
        size += len(line.encode()) + 1
        if size > _MOST_BYTES:
            yield _problem_line(ReadProblem("/proc", "more is in use than is kept"))
            return
        yield line


def _problem_line(problem: ReadProblem) -> str:
    parts = [public_block(without_mac(_UUID.sub(HIDDEN, part))) for part in problem.path.split("/")]
    for place, part in enumerate(parts[:-1]):
        if part == "net":
            parts[place + 1] = public_interface(parts[place + 1])
    if parts[1:2] == ["dev"]:
        parts[2:] = [HIDDEN]  # names in /dev/mapper and /dev/disk are the owner's
    return _BETWEEN.join((_PROBLEM, "/".join(parts), problem.reason.replace("\n", " ")))


def _parsed(tree: Tree, path: str, line: str) -> Iterator[Use]:
    """The uses of a line; a line that makes no sense is noted."""
    head, *words = line.split(_BETWEEN)
    if head == _PROBLEM and len(words) == 2:
        tree.note(*words)
    elif len(words) < 2 or words[0] not in set(UseKind):
        tree.note(path, f"holds {line[:40]!r}, not a use")
    else:
        try:
            address = PciAddress.parse(head)
        except UsageError:
            tree.note(path, f"holds {head[:40]!r}, not a PCI address")
            return
        for what in words[1].split(_AMONG):
            yield Use(address, UseKind(words[0]), what, tuple(words[2:]))
