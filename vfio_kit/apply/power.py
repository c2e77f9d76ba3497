"""A VM that is there is switched off and on: its devices and its hugepages go and come with it.

Both are journalled as `up` does it: HUGEPAGES and START are undone, and begun again on this boot.
The functions that change something need the VM's lock, which the caller holds.
"""

import time
from collections.abc import Callable
from contextlib import suppress

from vfio_kit.analysis.drift import drift
from vfio_kit.analysis.leftovers import VmFacts
from vfio_kit.apply import hugepages, service
from vfio_kit.apply.claims import require_free
from vfio_kit.apply.command import ask
from vfio_kit.apply.facts import vm_facts
from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.journal import VmFolder, VmRecord
from vfio_kit.apply.libvirt_xml import boot_files
from vfio_kit.apply.locks import Said, host_lock
from vfio_kit.apply.steps import hugepages_data, naming_drivers, start_data
from vfio_kit.apply.transaction import UNDOING, UNDONE, Begins, Progress, undo, untold
from vfio_kit.errors import HostError, HypervisorError, Refused, UsageError
from vfio_kit.model import Host
from vfio_kit.model.placement import CpuTopology, Placement
from vfio_kit.model.vm import StepKind

_POLL = 0.2
_PRESS_AGAIN = 20.0
"""Seconds between two presses of the power button: a guest that still boots takes no notice."""
_POWER = (StepKind.START, StepKind.HUGEPAGES)
"""What a VM that is off has not."""
_SETTLE = 60
"""Seconds for udev, at the most."""
_ONE_CPU = CpuTopology(1, 1, 1)
"""Where only the memory of a placement counts."""


def look(folder: VmFolder, hypervisor: Hypervisor) -> VmFacts:
    """What is known of the VM; UsageError for an unknown one, HostError for a damaged one."""
    folder.record()
    folder.outstanding()
    return vm_facts(folder, {domain.name: domain for domain in hypervisor.domains()})


def is_up(vm: VmFacts) -> bool:
    """Whether it runs, and was started by vfio-kit on this boot."""
    start = vm.step(StepKind.START)
    return vm.runs and start is not None and start.this_boot


def is_off(vm: VmFacts) -> bool:
    """Whether it does not run, and nothing is kept for its running."""
    return not vm.runs and not any(vm.step(kind) for kind in _POWER)


def require_kept(vm: VmFacts) -> None:
    """Raises UsageError for a VM that is half up or half down: there is no off and on for it.

    One whose first boot failed after somebody could log in is kept as it is. And for one that an
    older vfio-kit made: its record has neither its devices nor its hugepages.
    """
    if not vm.steps:
        raise UsageError(f"{vm.name!r} is down", "vfio-kit up makes it anew")
    if vm.going_down:
        raise UsageError(f"{vm.name!r} is half down", f"to the end: vfio-kit down {vm.name}")
    if not vm.is_kept:
        raise UsageError(
            f"nobody could log in to {vm.name!r} yet: its first boot has not ended",
            f"wait for it: vfio-kit up {vm.name} with the same options; "
            f"or take it away: vfio-kit down {vm.name}",
        )
    if vm.older:
        raise UsageError(
            f"{vm.name!r} was made by an older vfio-kit, which wrote down too little to give its "
            "hugepages and devices back and to take them again",
            f"vfio-kit down {vm.name} takes it away, and up makes it anew; or virsh shutdown "
            f"{vm.name}, and virsh start {vm.name}",
        )


def shut_down(hypervisor: Hypervisor, name: str, timeout: float) -> bool:
    """Asks the guest to shut down, and waits; False where it still runs after `timeout` seconds."""
    begin = time.monotonic()
    pressed: float | None = None
    while (found := hypervisor.domain(name)) is not None and found.runs:
        now = time.monotonic()
        if now > begin + timeout:
            return False
        if pressed is None or now > pressed + _PRESS_AGAIN:
            pressed = now
            hypervisor.shutdown(name)
        time.sleep(_POLL)
    return True


def put_back(
    folder: VmFolder,
    hypervisor: Hypervisor,
    progress: Progress,
    say: Said = lambda _line: None,
    begins: Begins = untold,
) -> None:
    """Gives devices and hugepages back, switching the VM off if it runs; may be repeated."""
    with host_lock(say):
        _put_back(folder, hypervisor, progress, begins)


def _put_back(folder: VmFolder, hypervisor: Hypervisor, progress: Progress, begins: Begins) -> None:
    for kind in _POWER:
        entry = next((e for e in folder.outstanding() if e.step is kind), None)
        if entry is not None:
            begin = time.monotonic()
            begins(UNDOING[kind], None)
            undo(entry, folder, lambda: hypervisor)
            folder.undone(kind)
            progress(UNDONE[kind], time.monotonic() - begin)


def start_again(
    folder: VmFolder,
    hypervisor: Hypervisor,
    read_host: Callable[[], Host],
    progress: Progress,
    say: Said = lambda _line: None,
    begins: Begins = untold,
) -> None:
    """Starts a VM that is off, with its devices and its hugepages; needs it to be kept.

    read_host  reads the host as it is under its lock.

    Raises Refused where its devices are not what they were, or somebody else's; HostError where its
    files or its memory are not there; HypervisorError. The caller then calls `put_back`.
    """
    record = folder.record()
    with host_lock(say):
        _put_back(folder, hypervisor, progress, begins)  # of another boot, or of a guest's own end
        _settle()
        _require_files(folder)
        _require_devices(record, read_host())
        _require_free(folder, record, hypervisor)
        hypervisor.require_network(record.network)
        _define(folder, record, hypervisor, progress)
        _take_hugepages(folder, record, progress, begins)
        begins(f"starting {record.name}", None)
        _start(folder, record, hypervisor, progress)


def _settle() -> None:
    """At boot drivers are still coming: what a function has when they have come is what it had."""
    with suppress(HypervisorError):  # a host without udev
        ask(["udevadm", "settle", f"--timeout={_SETTLE}"])


def _require_files(folder: VmFolder) -> None:
    gone = [path for step in vm_facts(folder, {}).steps for path in step.missing]
    if gone:
        raise HostError(
            f"files that {folder.name!r} needs are gone: {', '.join(gone)}",
            "put them back, or mount what they were on; or take the VM away: "
            f"vfio-kit down {folder.name}",
        )


def device_changes(record: VmRecord, host: Host) -> tuple[str, ...]:
    """What has changed about the VM's devices since it was made, but for what a reboot may."""
    return drift(record.devices, host, drivers=False)


def _require_devices(record: VmRecord, host: Host) -> None:
    """Raises Refused where a device is not the one that was handed over."""
    changes = device_changes(record, host)
    if changes:
        raise Refused(
            f"the devices of {record.name!r} are not as they were: {'; '.join(changes)}",
            "put them back as they were; or make the VM anew: vfio-kit down "
            f"{record.name}, and up with what vfio-kit scan shows",
        )


def _require_free(folder: VmFolder, record: VmRecord, hypervisor: Hypervisor) -> None:
    named = ((device.address, device.name or device.ids) for device in record.devices)
    require_free(folder.path.parent, record.name, named, hypervisor.passed_through())


def _define(folder: VmFolder, record: VmRecord, hypervisor: Hypervisor, progress: Progress) -> None:
    """Tells libvirt the domain again where it has lost it."""
    found = hypervisor.domain(record.name)
    if found is not None and found.uuid != record.uuid:
        raise HypervisorError(
            f"libvirt's domain {record.name!r} is not the one that vfio-kit made",
            f"virsh dumpxml {record.name} shows what it is",
        )
    if found is None:
        begin = time.monotonic()
        define_again(folder, hypervisor)
        progress(f"defined the libvirt domain {record.name} again", time.monotonic() - begin)


def define_again(folder: VmFolder, hypervisor: Hypervisor) -> None:
    """Defines the domain from the copy in the VM's folder; HostError where there is none."""
    try:
        text = folder.domain_xml.read_text()
    except OSError as error:
        raise HostError(
            f"libvirt does not know {folder.name!r} any more, and {folder.domain_xml} cannot be "
            f"read: {error.strerror}",
            f"take the VM away: vfio-kit down {folder.name}",
        ) from None
    hypervisor.define(text)


def _take_hugepages(folder: VmFolder, record: VmRecord, progress: Progress, begins: Begins) -> None:
    pages = record.hugepages
    if pages is None:
        return
    begin = time.monotonic()
    placement = Placement(_ONE_CPU, pages=record.pages) if record.pages else None
    data = hugepages_data(pages, placement, folder.path.parent, record.name)
    begins(f"making {pages.count} hugepages free", hugepages.growth(data))
    folder.begin(StepKind.HUGEPAGES, data)
    hugepages.take(data)
    folder.done(StepKind.HUGEPAGES)
    progress(f"made {pages.count} hugepages of {pages.size.words} free", time.monotonic() - begin)


def _start(folder: VmFolder, record: VmRecord, hypervisor: Hypervisor, progress: Progress) -> None:
    begin = time.monotonic()
    addresses = [str(device.address) for device in record.devices]
    data = start_data(record.name, record.uuid, addresses, _boot_files(folder))
    folder.begin(StepKind.START, data)
    with naming_drivers(data):
        hypervisor.start(record.name, record.memory_mib)
    folder.done(StepKind.START)
    progress(f"started {record.name}", time.monotonic() - begin)
    service.activate(record.name)


def _boot_files(folder: VmFolder) -> tuple[str, ...]:
    """As the copy of the domain has them; none where it is damaged: libvirt has the domain."""
    try:
        return boot_files(folder.domain_xml.read_text())
    except (OSError, ValueError):
        return ()
