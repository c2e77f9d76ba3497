"""What is known of a VM: its record and journal, and what libvirt and the file system say."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from vfio_kit.analysis.leftovers import StepFacts, VmFacts
from vfio_kit.apply.boot import boot_id
from vfio_kit.apply.journal import Damaged, Entry, VmFolder, VmRecord
from vfio_kit.errors import HostError, UsageError
from vfio_kit.model.domain import DomainState
from vfio_kit.model.vm import StepKind

_FILES = (StepKind.KEYS, StepKind.DISK, StepKind.SEED)


def vm_facts(folder: VmFolder, domains: Mapping[str, DomainState]) -> VmFacts:
    """The facts of a VM, without those that take a look at the whole host; changes nothing.

    domains  those that libvirt has, by name. A record or a journal that is damaged is a fact.
    """
    holder = folder.holder()
    busy = None if holder is None else str(holder)
    try:
        entries, going_down = folder.outstanding(), folder.going_down()
    except HostError as error:
        return _damaged(folder, error, busy, domains)
    try:
        record = folder.record()
    except (HostError, UsageError) as error:
        if entries or isinstance(error, HostError):
            return _damaged(folder, error, busy, domains, entries)
        return VmFacts(folder.name, holder=busy, temporary=_remains(folder))
    found = domains.get(folder.name)
    ours = found is not None and found.uuid == record.uuid
    return VmFacts(
        folder.name,
        steps=tuple(map(_step_facts, entries)),
        going_down=going_down,
        holder=busy,
        domain=found.state if found is not None and ours else None,
        foreign=bool(entries) and found is not None and not ours,
        has_copy=folder.domain_xml.exists(),
        logged_in=record.address is not None,
        baking=not record.gpus,
        older=bool(record.gpus) and not record.devices,
        temporary=_temporary(folder, record),
    )


def _step_facts(entry: Entry) -> StepFacts:
    files = entry.data.get("files", []) if entry.done and entry.step in _FILES else []
    missing = [str(file) for file in files if not Path(file).exists()]
    # What a baking writes beside its disk is taken away by itself.
    gone = tuple(file for file in missing if not file.endswith(".baking"))
    now = boot_id()
    this_boot = entry.data.get("boot", now) == now
    return StepFacts(entry.step, entry.done, this_boot, gone)


def _temporary(folder: VmFolder, record: VmRecord) -> tuple[str, ...]:
    """Files that were being written when a crash came: in the VM's folder, and beside its disk."""
    files = [Path(text) for text in (record.disk, record.seed, record.bundle) if text]
    beside = [file.with_name(f".{file.name}.tmp") for file in files]
    found = sorted(folder.path.glob(".*.tmp")) + [file for file in beside if file.exists()]
    return tuple(map(str, found))


def _remains(folder: VmFolder) -> tuple[str, ...]:
    """Of a VM without a record, and with nothing to undo: a purge that broke off."""
    ours = (folder.identity, folder.known_hosts, folder.domain_xml, folder.path / "journal.jsonl")
    there = [path for path in ours if path.exists()]
    return tuple(map(str, [*there, *sorted(folder.path.glob(".*.tmp"))]))


def _damaged(
    folder: VmFolder,
    error: HostError | UsageError,
    busy: str | None,
    domains: Mapping[str, DomainState],
    entries: list[Entry] | None = None,
) -> VmFacts:
    """entries: the journal's, where it is the record that is damaged, or gone."""
    why = error.message if isinstance(error, HostError) else f"{folder.path}/vm.json is gone"
    if isinstance(error, HostError) and not isinstance(error, Damaged):
        # Closed to this user, of a newer vfio-kit, on a disk that fails: nothing to take away for.
        by_hand = error.hint.splitlines()
    elif entries is None:
        by_hand = _by_hand(folder, domains)
    else:
        by_hand = [f"vfio-kit down {folder.name}   (its journal is whole)"]
    return VmFacts(folder.name, holder=busy, damage=why, by_hand=tuple(by_hand))


def _by_hand(folder: VmFolder, domains: Mapping[str, DomainState]) -> list[str]:
    """Commands that take away what can be seen of a VM whose journal cannot be read."""
    name, place = folder.name, folder.path.with_name(folder.owner())
    if place != folder.path and not place.exists():  # renamed, and not copied
        return [f"mv {shlex.quote(str(folder.path))} {shlex.quote(str(place))}"]
    commands = []
    try:
        record: VmRecord | None = folder.record()
    except (HostError, UsageError):
        record = None
    found = domains.get(name)
    if found is not None and (record is None or found.uuid == record.uuid):
        commands += [f"virsh destroy {name}"] if found.runs else []
        commands += [f"virsh undefine --nvram {name}"]
    if record is not None:
        files = [text for text in (record.disk, record.seed, record.bundle) if text]
        files = [file for file in files if Path(file).exists()]
        commands += [f"rm {shlex.join(files)}"] if files else []
    return [*commands, f"rm -r {shlex.quote(str(folder.path))}"]
