"""Kernel modules on disk: which there are, and which would take a device (lib/modules/RELEASE).

The files are depmod's: modules.dep(5), modules.builtin, modules.alias; what may not load by itself
stands in modprobe.d(5) and on the kernel's command line.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from vfio_kit.errors import UsageError
from vfio_kit.host.tree import LONG, Tree
from vfio_kit.model import PciAddress

_DEVICES = "sys/bus/pci/devices"
_MODPROBE_D = ("lib/modprobe.d", "usr/lib/modprobe.d", "run/modprobe.d", "etc/modprobe.d")
"""Of files of one name the last one counts."""
_BLACKLISTING = ("modprobe.blacklist=", "module_blacklist=")
_NEVER = re.compile(r"(?:/usr)?/bin/(?:false|true)\b")
_NAME = re.compile(r"[\w-]+", re.ASCII)
_PCI_IDS = re.compile(r"pci:v([0-9A-F]{8})d([0-9A-F]{8})")


def modules_folder(tree: Tree, release: str) -> str | None:
    """Where the modules of this kernel are; None where they are not in the tree."""
    if not release:
        return None
    folders = (f"{top}/modules/{release}" for top in ("lib", "usr/lib"))
    return next((folder for folder in folders if tree.exists(folder)), None)


def has_module(tree: Tree, release: str, name: str) -> bool | None:
    """Whether the kernel has the module, built in or to load; None where its lists are not there.

    `name` is as files are called: with hyphens, without .ko.
    """
    folder = modules_folder(tree, release)
    if folder is None:
        return None
    loadable = tree.text(f"{folder}/modules.dep", LONG)
    if f"/{name}.ko" in f"{tree.text(f'{folder}/modules.builtin', LONG) or ''}\n{loadable or ''}":
        return True
    return None if loadable is None else False


def read_matching_modules(
    tree: Tree, addresses: Iterable[PciAddress], release: str, cmdline: str
) -> dict[PciAddress, tuple[str, ...]]:
    """Function -> names of modules that udev would load for it, sorted.

    What is blacklisted is left out, and so are functions with a driver_override. vfio-pci has no
    alias of this kind: it takes nothing by itself.
    """

    def compute() -> str:
        return "\n".join(_matches(tree, sorted(addresses), release, cmdline))

    found = {}
    for line in (tree.extract("matching-modules", compute) or "").splitlines():
        address, *names = line.split() or ("",)
        try:
            where = PciAddress.parse(address)
        except UsageError:
            tree.note("extracts/matching-modules", f"{address[:40]!r} is not a PCI address")
            continue
        found[where] = tuple(name for name in names if _NAME.fullmatch(name))
    return found


def _matches(tree: Tree, addresses: list[PciAddress], release: str, cmdline: str) -> Iterator[str]:
    folder = modules_folder(tree, release)
    if folder is None or not addresses:
        return
    wanted = {
        address: modalias
        for address in addresses
        if (modalias := tree.text(f"{_DEVICES}/{address}/modalias"))
        # Reserved for one driver, as driverctl does it: no other one takes it.
        and tree.text(f"{_DEVICES}/{address}/driver_override") in (None, "", "(null)")
    }
    aliases = _aliases(tree.text(f"{folder}/modules.alias", LONG) or "", wanted)
    blocked = _blacklist(tree, cmdline)
    for address, modalias in wanted.items():
        names = {module for pattern, module in aliases if fnmatchcase(modalias, pattern)}
        if names - blocked:
            yield " ".join((str(address), *sorted(names - blocked)))


def _aliases(text: str, wanted: Mapping[PciAddress, str]) -> list[tuple[str, str]]:
    """Patterns and modules, of these devices, and of all of a vendor or of a class.

    The file has some 20,000 lines: one regular expression that begins with plain text finds these
    few in milliseconds.
    """
    starts = {r"\*"}
    for match in filter(None, map(_PCI_IDS.match, wanted.values())):
        starts |= {f"{match[1]}d{match[2]}", rf"{match[1]}d\*"}
    either = "|".join(sorted(starts))
    return re.findall(rf"\nalias (pci:v(?:{either})\S*) ([\w-]+)(?=\n|$)", "\n" + text)


def _blacklist(tree: Tree, cmdline: str) -> set[str]:
    """Modules that may not load by themselves, with underscores, as modules.alias names them."""
    files = {
        name: f"{folder}/{name}"
        for folder in _MODPROBE_D
        for name in tree.names(folder)
        if name.endswith(".conf")
    }
    blocked = set()
    for path in files.values():
        for line in (tree.text(path, private=True) or "").splitlines():
            words = line.split(None, 2)
            if words[:1] == ["blacklist"] or (
                words[:1] == ["install"] and _NEVER.match("".join(words[2:]))
            ):
                blocked.update(words[1:2])
    for word in cmdline.split():
        for key in _BLACKLISTING:
            if word.startswith(key):
                blocked.update(word.removeprefix(key).split(","))
    return {name.replace("-", "_") for name in blocked}
