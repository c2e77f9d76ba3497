"""What the VMs of this host have, or are about to have: by their records and their journals."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vfio_kit.apply.journal import VmFolder, VmRecord, folders
from vfio_kit.errors import HostError, Refused, UsageError
from vfio_kit.model import PciAddress
from vfio_kit.model.placement import Claim
from vfio_kit.model.vm import StepKind


def claims_of(state_dir: Path, but: str | None = None) -> tuple[Claim, ...]:
    """A claim for each VM, except the one called `but`, that has steps to be undone.

    Raises HostError where the state directory cannot be read. Of a VM whose files are damaged, what
    can be read of them counts: libvirt's word on what runs is asked besides.
    """
    others = (folder for folder in folders(state_dir) if folder.name != but)
    return tuple(claim for folder in others if (claim := _claim(folder)) is not None)


def added_hugepages(state_dir: Path, but: str | None = None) -> tuple[dict[str, Any], ...]:
    """What the journals of the VMs, except the one called `but`, have of hugepages still to be
    given back: as hugepages.prepare has it. Raises HostError as claims_of does."""
    added = []
    for folder in folders(state_dir):
        try:
            entries = folder.outstanding() if folder.name != but else []
        except HostError:
            continue  # damaged: said by whoever works on that VM
        for data in (entry.data for entry in entries if entry.step is StepKind.HUGEPAGES):
            # A journal of version 2 knows the host's one pool alone.
            nodes = data.get("nodes", {"any": data})
            if isinstance(nodes, dict) and {"size_kib", "boot"} <= data.keys():
                added.append({**data, "nodes": nodes})
    return tuple(added)


def require_unclaimed(
    state_dir: Path, name: str, functions: Iterable[tuple[PciAddress, str | None]]
) -> None:
    """Raises Refused for a function, with what it is called, that another VM than `name` claims.

    Says which VM, and which process is at work on it, if one is.
    """
    wanted = dict(functions)
    for claim in claims_of(state_dir, but=name):
        for address in sorted(claim.functions & wanted.keys()):
            called = f" ({wanted[address]})" if wanted[address] else ""
            holder = VmFolder(state_dir / claim.vm).holder()
            busy = f", which {holder} is at work on" if holder else ""
            raise Refused(
                f"{address}{called} belongs to the VM {claim.vm!r}{busy}",
                f"end that VM first: vfio-kit down {claim.vm}"
                if holder is None
                else "wait for that to end, and then end that VM, if it is not gone: "
                f"vfio-kit down {claim.vm}",
            )


def require_free(
    state_dir: Path,
    name: str,
    functions: Iterable[tuple[PciAddress, str | None]],
    taken: Mapping[str, str],
) -> None:
    """As require_unclaimed, and for a function that a running domain of anybody's has.

    taken  address -> domain, as Hypervisor.passed_through has it.
    """
    wanted = tuple(functions)
    require_unclaimed(state_dir, name, wanted)
    for address, called in wanted:
        user = taken.get(str(address))
        if user is not None:
            raise Refused(
                f"{address} ({called}) is in the running VM {user!r}",
                f"end that VM first: vfio-kit down {user}, or virsh shutdown {user}",
            )


def _claim(folder: VmFolder) -> Claim | None:
    record = _record(folder)
    try:
        entries = {entry.step: entry for entry in folder.outstanding()}
    except HostError:  # damaged: nobody knows what was undone, so the record's word holds
        return None if record is None else _of_record(folder.name, record, runs=True)
    if not entries:
        return None
    start = entries.get(StepKind.START)
    claim = Claim(folder.name) if record is None else _of_record(folder.name, record, bool(start))
    moved = start.data.get("drivers") if start else None
    if not isinstance(moved, dict):
        return claim
    functions = claim.functions | frozenset(_addresses(map(str, moved)))
    return Claim(claim.vm, functions, claim.cpus, claim.memory_mib)


def _of_record(name: str, record: VmRecord, runs: bool) -> Claim:
    pages = () if runs or record.page_kib is None else record.pages
    size = record.page_kib or 0
    return Claim(
        name,
        frozenset((*_addresses(record.gpus), *(device.address for device in record.devices))),
        frozenset(record.cpus),
        tuple((node, count * size >> 10) for node, count in pages),
    )


def _record(folder: VmFolder) -> VmRecord | None:
    try:
        return folder.record()
    except (HostError, UsageError):  # damaged, or none: the journal has its devices, too
        return None


def _addresses(texts: Iterable[str]) -> Iterator[PciAddress]:
    for text in texts:
        try:
            yield PciAddress.parse(text)
        except UsageError:
            continue  # a damaged record's: libvirt is asked besides
