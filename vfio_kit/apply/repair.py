"""What is left of VMs on this host, and the mending of it.

It is judged by analysis/leftovers.py. Nothing is mended that another vfio-kit is at work on, and
every VM is looked at once more under its lock.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vfio_kit.analysis.leftovers import (
    Leftover,
    VmFacts,
    leftovers_of,
    stray_unit,
    temporary_files,
    unknown_domain,
)
from vfio_kit.apply import power, service
from vfio_kit.apply.facts import vm_facts
from vfio_kit.apply.files import remove
from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.journal import VmFolder, folders
from vfio_kit.apply.locks import Said, host_lock
from vfio_kit.apply.transaction import Begins, Progress, take_down, untold
from vfio_kit.errors import HostError, VfioKitError
from vfio_kit.knowledge.leftovers import Mend
from vfio_kit.model import Host
from vfio_kit.model.domain import DomainState


@dataclass(frozen=True, slots=True)
class Found:
    """VMs, each with what is left of it, and what is left without a VM."""

    vms: tuple[tuple[VmFacts, tuple[Leftover, ...]], ...]
    others: tuple[Leftover, ...] = ()


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of a leftover. failure: why it is still there; None where it is mended."""

    left: Leftover
    failure: VfioKitError | None = None


@dataclass(frozen=True, slots=True)
class _Around:
    """What libvirt and systemd know, asked once for all VMs.

    units   names of the VMs that the host starts at boot, with this state directory.
    failed  of these the ones that it tried to start, and could not.
    """

    domains: Mapping[str, DomainState]
    units: frozenset[str]
    failed: frozenset[str]


class Repair:
    """One run over a state directory.

    hypervisor  None where there is no libvirt: no domain is known then, and no VM may be.
    read_host   reads the host, to know the VMs' devices again.
    root        where the host's units are.
    """

    def __init__(
        self,
        state_dir: Path,
        hypervisor: Hypervisor | None,
        read_host: Callable[[], Host],
        progress: Progress,
        say: Said,
        root: Path = Path("/"),
        begins: Begins = untold,
    ) -> None:
        self._state_dir, self._hypervisor = state_dir, hypervisor
        self._read_host, self._progress, self._say = read_host, progress, say
        self._begins = begins
        self._root = root

    def look(self, names: Iterable[str] = ()) -> Found:
        """What is there of these VMs, or of all and of the host; changes nothing.

        Raises UsageError for a name that nothing is known of.
        """
        named = tuple(dict.fromkeys(names))
        chosen = [self._named(name) for name in named] or _all_folders(self._state_dir)
        host, around = self._read_host() if chosen else None, self._around()
        facts = [self._facts(folder, host, around) for folder in chosen]
        vms = tuple((vm, leftovers_of(vm)) for vm in facts)
        return Found(vms) if named else Found(vms, tuple(self._without_vm(facts, around)))

    def look_again(self, names: Iterable[str] = ()) -> Found:
        """As `look`, after the mending: a VM of which nothing is left has nothing left over."""
        named = tuple(names)
        there = tuple(name for name in named if (self._state_dir / name).is_dir())
        return Found(()) if named and not there else self.look(there)

    def mend(self, found: Found) -> tuple[Mended, ...]:
        """Mends what can be; returns what became of each leftover that is not only told."""
        results: list[Mended] = []
        for vm, left in found.vms:
            wanted = [each for each in left if each.kind.mend is not Mend.TELL]
            try:
                results += self._mend_vm(VmFolder(self._state_dir / vm.name)) if wanted else ()
            except VfioKitError as error:  # as where another vfio-kit was faster: the others wait
                results += (Mended(each, error) for each in wanted)
        for left_alone in found.others:
            if left_alone.kind.mend is not Mend.TELL:
                results.append(self._try(left_alone, self._state_dir))
        return tuple(results)

    def _named(self, name: str) -> VmFolder:
        folder = VmFolder(self._state_dir / name)
        folder.require_there()
        return folder

    def _around(self) -> _Around:
        domains = self._hypervisor.domains() if self._hypervisor else []
        units = service.enabled(self._state_dir, self._root)
        failed = service.failed(units) if self._root == Path("/") else frozenset()
        return _Around({domain.name: domain for domain in domains}, units, failed)

    def _facts(self, folder: VmFolder, host: Host | None, around: _Around) -> VmFacts:
        vm = vm_facts(folder, around.domains)
        changes: tuple[str, ...] = ()
        if host is not None and vm.steps and not vm.runs:
            changes = power.device_changes(folder.record(), host)
        unit, failed = folder.name in around.units, folder.name in around.failed
        return replace(vm, unit=unit, unit_failed=failed, drift=changes)

    def _without_vm(self, vms: list[VmFacts], around: _Around) -> Iterable[Leftover]:
        known = {vm.name for vm in vms if vm.steps or vm.holder or vm.damage}
        for domain in self._hypervisor.marked() if self._hypervisor else []:
            if domain.name not in known:
                yield unknown_domain(domain.name, domain.state)
        for name in sorted(around.units - {vm.name for vm in vms}):
            yield stray_unit(name)
        if bakings := _stray_bakings(self._state_dir):
            yield temporary_files(None, bakings)

    def _mend_vm(self, folder: VmFolder) -> list[Mended]:
        with folder.locked():
            # Those of this moment, and without the lock's holder, who is this process.
            facts = replace(self._facts(folder, self._read_host(), self._around()), holder=None)
            wanted = [left for left in leftovers_of(facts) if left.kind.mend is not Mend.TELL]
            return [self._try(left, folder.path) for left in wanted]

    def _try(self, left: Leftover, path: Path) -> Mended:
        try:
            self._mend(left, VmFolder(path))
        except VfioKitError as error:
            return Mended(left, error)
        return Mended(left)

    def _mend(self, left: Leftover, folder: VmFolder) -> None:
        match left.kind.mend:
            case Mend.DOWN:
                take_down(folder, self._progress, self._say, begins=self._begins)
            case Mend.STOP:
                self._put_back(folder)
            case Mend.START:
                self._start(folder)
            case Mend.DEFINE:
                self._define(folder)
            case Mend.REMOVE:
                for file in left.files:
                    remove(Path(file))
                if left.vm is not None:
                    with suppress(OSError):  # not empty: the VM's record is there
                        folder.path.rmdir()
            case Mend.DISABLE:
                with host_lock(self._say):
                    service.disable({"vm": left.vm}, self._root)
            case Mend.TELL:
                raise ValueError(f"{left.kind.word} is the operator's to decide")

    def _start(self, folder: VmFolder) -> None:
        try:
            power.start_again(
                *(folder, self._libvirt(), self._read_host),
                *(self._progress, self._say, self._begins),
            )
        except BaseException:
            self._put_back(folder)
            raise

    def _put_back(self, folder: VmFolder) -> None:
        power.put_back(folder, self._libvirt(), self._progress, self._say, self._begins)

    def _define(self, folder: VmFolder) -> None:
        if self._libvirt().domain(folder.name) is None:
            power.define_again(folder, self._libvirt())

    def _libvirt(self) -> Hypervisor:
        if self._hypervisor is None:
            raise HostError("there is no libvirt here", "is libvirtd running?")
        return self._hypervisor


def _all_folders(state_dir: Path) -> list[VmFolder]:
    """Those of VMs, and those that hold nothing but what a crash left of a first write."""
    found = {folder.name: folder for folder in folders(state_dir)}
    for path in state_dir.iterdir() if state_dir.is_dir() else ():
        if path.name not in found and path.is_dir() and list(path.glob(".vm.json.tmp")):
            found[path.name] = VmFolder(path)
    return [found[name] for name in sorted(found)]


def _stray_bakings(state_dir: Path) -> tuple[str, ...]:
    """Half-baked images beside the disks of VMs, which no journal has and nobody writes."""
    disks, journalled = set(), set()
    for folder in folders(state_dir):
        with suppress(VfioKitError):  # a damaged one is told by itself
            disks.add(Path(folder.record().disk).parent)
            journalled |= {file for e in folder.outstanding() for file in e.data.get("files", [])}
    found = [
        file for disk in sorted(disks) if disk.is_absolute() for file in disk.glob(".*.baking")
    ]
    return tuple(str(file) for file in found if str(file) not in journalled and not _is_open(file))


def _is_open(file: Path) -> bool:
    """Whether any process has it open, as qemu-img has what it writes."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if link.readlink() == file:
                return True
    return False
