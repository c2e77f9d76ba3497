"""PURE: what is installed in a guest, from what guest/seal.INVENTORY prints."""

from dataclasses import dataclass

from vfio_kit.analysis.guest.first_boot import RecordReader
from vfio_kit.analysis.guest.printable import printable
from vfio_kit.model.vm import InstalledPackage


@dataclass(frozen=True, slots=True)
class Inventory:
    """system: PRETTY_NAME of os-release; kernel: the running one's release.

    driver_version: of the NVIDIA module that belongs to the newest kernel that has one; None
    without.
    """

    system: str
    kernel: str
    driver_version: str | None
    packages: tuple[InstalledPackage, ...]


def parse_inventory(text: str) -> Inventory:
    """Reads the records `system`, `kernel`, `module` and `packages`; raises ValueError."""
    reader = RecordReader()
    found: dict[str, list[str]] = {}
    for line in text.split("\n")[:-1]:
        record = reader.feed(line)
        if record is not None:
            found[record.name] = record.text.split("\n") if record.text else []
    try:
        (system,), (kernel,) = found["system"], found["kernel"]
        packages = tuple(_package(line) for line in found["packages"])
        modules = [printable(line) for line in found["module"]]
    except (KeyError, ValueError):
        raise ValueError("not an inventory: a record is missing or malformed") from None
    version = modules[-1] if modules else None
    return Inventory(printable(system), printable(kernel), version, packages)


def _package(line: str) -> InstalledPackage:
    name, version, architecture = (printable(word) for word in line.split(" "))
    return InstalledPackage(name, version, architecture)
