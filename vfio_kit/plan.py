"""PURE: host and spec become a plan: the domain in every detail, the steps, their undo."""

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from vfio_kit.analysis.isolation import judge_together
from vfio_kit.analysis.readiness.platform import platform_findings
from vfio_kit.errors import Refused, UsageError
from vfio_kit.knowledge.guests import DIRECT_BOOT_CMDLINE, GUESTS
from vfio_kit.knowledge.provisioning import NO_DRIVER, PROVISIONED_DISK_GIB, PROVISIONING
from vfio_kit.model import Finding, GpuReport, Host, Level, PciAddress, PciDevice
from vfio_kit.model.vm import (
    Boot,
    BootMode,
    DeviceIdentity,
    DomainPlan,
    HostDevice,
    Hugepages,
    Software,
    Step,
    StepKind,
    UpPlan,
    console_log,
)
from vfio_kit.spec import BakeSpec, GuestSpec

STATE_DIR = "/var/lib/vfio-kit"
IMAGE_DIR = "/var/lib/libvirt/images"

# Slots on the guest's root bus. 0 is the host bridge, 1f the chipset's; root ports come last.
NET_SLOT = 0x03
DISK_SLOT = 0x04
SEED_SLOT = 0x05
FIRST_PORT_SLOT = 0x08
_MOST_PORTS = 0x1F - FIRST_PORT_SLOT

_PAGE_KIB = {"2M": 2048, "1G": 1024 * 1024}
_UUID_NAMESPACE = uuid.UUID("5f1d2a52-6f0f-5c0e-9a43-1f5d9d1e8d11")
_MOST_PREALLOC_THREADS = 16


def make_plan(
    host: Host,
    spec: GuestSpec,
    *,
    state_dir: str = STATE_DIR,
    image_dir: str = IMAGE_DIR,
    tolerated: frozenset[str] = frozenset(),
) -> UpPlan:
    """Decides everything that `up` will do. `tolerated`: codes of findings that do not refuse.

    Raises UsageError for an address that is no GPU of this host or gone when the others go, Refused
    for a GPU that cannot go.
    """
    if spec.driver != NO_DRIVER and (spec.guest, spec.driver) not in PROVISIONING:
        raise UsageError(
            f"nothing is known of how to install driver {spec.driver} in {spec.guest}",
            f"--driver {NO_DRIVER}, and install it by hand",
        )
    reports = judge_together(host, spec.addresses)
    accepted = frozenset(map(PciAddress.parse, spec.accept_loss))
    for address in sorted(accepted - {f.address for r in reports for f in r.functions}):
        raise UsageError(
            f"--accept-loss {address} names nothing that is handed over", "name it as --gpu does"
        )
    findings = tuple(
        _weighed(found, accepted, tolerated)
        for found in dict.fromkeys(
            (*(f for report in reports for f in report.findings), *platform_findings(host))
        )
    )
    _refuse(reports, findings)
    functions = tuple(_distinct(report.functions for report in reports))
    _require_existence(functions)
    software = Software(spec.driver, None if spec.driver == NO_DRIVER else "11.4")
    return _assembled(spec, software, functions, findings, state_dir, image_dir)


def make_bake_plan(
    spec: BakeSpec, *, state_dir: str = STATE_DIR, image_dir: str = IMAGE_DIR
) -> UpPlan:
    """Decides what `bake` will do: the VM of the spec, without its GPUs, with all its software.

    Raises UsageError for a driver that the guest system is not known to take.
    """
    if spec.driver != NO_DRIVER and (spec.guest, spec.driver) not in PROVISIONING:
        raise UsageError(
            f"nothing is known of how to install driver {spec.driver} in {spec.guest}",
            f"--driver {NO_DRIVER}, and install it by hand",
        )
    software = Software(
        spec.driver,
        None if spec.driver == NO_DRIVER else "11.4",
        capabilities=tuple(spec.capabilities),
    )
    return _assembled(spec, software, (), (), state_dir, image_dir)


def _assembled(
    spec: GuestSpec,
    software: Software,
    functions: tuple[PciDevice, ...],
    findings: tuple[Finding, ...],
    state_dir: str,
    image_dir: str,
) -> UpPlan:
    domain = _domain(spec, functions, image_dir)
    state = str(PurePosixPath(state_dir) / spec.name)
    return UpPlan(
        domain=domain,
        guest=spec.guest,
        user=spec.ssh.user or GUESTS[spec.guest].user,
        software=software,
        image=spec.image or "",
        disk_gib=_disk_gib(spec),
        state_dir=state,
        gpus=spec.addresses if functions else (),
        devices=tuple(DeviceIdentity(f.address, f.ids, f.driver, f.name) for f in functions),
        authorized_keys=tuple(spec.ssh.authorized_keys),
        steps=_steps(spec, domain, functions, state),
        findings=findings,
    )


def _disk_gib(spec: GuestSpec) -> int | None:
    """A driver and CUDA do not fit into a cloud image's own 2 to 3 GiB."""
    if spec.disk is None and spec.driver != NO_DRIVER:
        return PROVISIONED_DISK_GIB
    return spec.disk


def _refuse(reports: tuple[GpuReport, ...], findings: tuple[Finding, ...]) -> None:
    """Raises Refused where a finding blocks; names the GPUs that it blocks."""
    blocking = [found for found in findings if found.level is Level.BLOCK]
    if not blocking:
        return
    gpus = [report.gpu for report in reports if set(blocking) & set(report.findings)]
    gpus = gpus or [report.gpu for report in reports]
    names = ", ".join(f"{gpu.address} ({gpu.name or gpu.ids})" for gpu in gpus)
    reasons = "; ".join(f"{found.message} ({found.code})" for found in blocking)
    hints = "\n".join(dict.fromkeys(found.hint for found in blocking if found.hint))
    raise Refused(f"{names} cannot go to a guest: {reasons}", hints)


def _weighed(found: Finding, accepted: frozenset[PciAddress], tolerated: frozenset[str]) -> Finding:
    """A finding that blocks is a warning where the operator accepted its device's loss."""
    if found.level is not Level.BLOCK:
        return found
    if found.acceptable and found.device in accepted:
        return replace(found, level=Level.WARN, message=f"accepted: {found.message}", hint="")
    return replace(found, level=Level.WARN) if found.code in tolerated else found


def _require_existence(functions: tuple[PciDevice, ...]) -> None:
    """Raises UsageError for a virtual function whose physical function goes as well."""
    going = {function.address for function in functions}
    for function in functions:
        if function.physical_function in going:
            raise UsageError(
                f"{function.address} is a virtual function of {function.physical_function}, and is "
                "gone when the driver leaves that",
                "give the guest one of the two",
            )


def _distinct(functions: Iterable[tuple[PciDevice, ...]]) -> list[PciDevice]:
    """All functions that go, by address, each once: two GPUs of a spec may share a slot."""
    by_address = {f.address: f for several in functions for f in several}
    return [by_address[address] for address in sorted(by_address)]


def _domain(spec: GuestSpec, functions: tuple[PciDevice, ...], image_dir: str) -> DomainPlan:
    name = spec.name
    devices = place(tuple(f.address for f in functions))
    page_kib = _PAGE_KIB.get(spec.hugepages)
    return DomainPlan(
        name=name,
        uuid=str(uuid.uuid5(_UUID_NAMESPACE, name)),
        memory_mib=spec.memory,
        cpus=spec.cpus,
        hugepages=None
        if page_kib is None
        else Hugepages(
            page_kib, spec.memory * 1024 // page_kib, min(spec.cpus, _MOST_PREALLOC_THREADS)
        ),
        boot=_boot(spec),
        disk=str(PurePosixPath(image_dir) / f"{name}.qcow2"),
        seed=str(PurePosixPath(image_dir) / f"{name}-seed.iso"),
        console_log=console_log(name),
        network=spec.network.name,
        mac=_mac(name),
        root_ports=tuple(sorted({device.guest_bus for device in devices})),
        host_devices=devices,
    )


def place(addresses: tuple[PciAddress, ...]) -> tuple[HostDevice, ...]:
    """Gives host functions their places in the guest.

    The functions of one host slot share one guest slot behind one root port, and keep their
    numbers; a guest looks at function 0 first, so where the host's slot has none, they move up.
    """
    placed: list[HostDevice] = []
    slots = sorted({address.slot for address in addresses})
    if len(slots) > _MOST_PORTS:
        raise UsageError(
            f"{len(slots)} cards are more than the {_MOST_PORTS} that one guest has root ports for",
            "spread them over several guests",
        )
    for bus, slot in enumerate(slots, start=1):
        members = sorted(a for a in addresses if a.slot == slot)
        numbers = [a.function for a in members]
        if 0 not in numbers:
            numbers = list(range(len(members)))
        placed += [
            HostDevice(address, bus, number, multifunction=number == 0 and len(members) > 1)
            for address, number in zip(members, numbers, strict=True)
        ]
    return tuple(placed)


def _boot(spec: GuestSpec) -> Boot:
    mode = spec.boot.effective_mode
    if mode is not BootMode.DIRECT:
        return Boot(mode)
    cmdline = f"root={GUESTS[spec.guest].root} {DIRECT_BOOT_CMDLINE}"
    return Boot(mode, spec.boot.kernel or "", spec.boot.initrd or "", cmdline)


def _mac(name: str) -> str:
    """A stable address in QEMU's range 52:54:00, from the VM's name."""
    tail = hashlib.sha256(name.encode()).digest()[:3]
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in tail)


def _steps(
    spec: GuestSpec, domain: DomainPlan, functions: tuple[PciDevice, ...], state: str
) -> tuple[Step, ...]:
    moves = ", ".join(f"{f.address} from {f.driver or 'no driver'}" for f in functions)
    back = ", ".join(f"{f.address} to {f.driver or 'no driver'}" for f in functions)
    pages = domain.hugepages
    steps = [
        Step(StepKind.STATE, f"record the VM in {state}", "none: it stays to be read; down --purge")
    ]
    if pages:
        size = "2 MiB" if pages.size_kib == 2048 else "1 GiB"
        steps.append(
            Step(
                StepKind.HUGEPAGES,
                f"make {pages.count} hugepages of {size} free ({spec.memory} MiB)",
                "give back the pages that were added",
            )
        )
    steps += [
        Step(
            StepKind.KEYS,
            "generate the guest's SSH host key and a client key",
            "remove the keys",
        ),
        Step(
            StepKind.DISK,
            f"create the overlay {domain.disk} on {spec.image or 'IMAGE'}",
            "remove the overlay",
        ),
        Step(StepKind.SEED, f"write the cloud-init seed {domain.seed}", "remove the seed"),
        Step(StepKind.DEFINE, f"define the libvirt domain {domain.name}", "undefine the domain"),
        Step(
            StepKind.START,
            f"start it; libvirt binds to vfio-pci: {moves}" if functions else "start it",
            f"stop it; libvirt gives back: {back}" if functions else "stop it",
        ),
        Step(
            StepKind.WAIT,
            "wait for SSH with the host key made above, and for cloud-init",
            "",
        ),
    ]
    return tuple(steps)
