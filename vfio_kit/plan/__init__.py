"""PURE: host and spec become a plan: the domain in every detail, the steps, their undo."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from vfio_kit.analysis.isolation import judge_together
from vfio_kit.analysis.readiness.platform import platform_findings
from vfio_kit.analysis.software import (
    Choice,
    Wanted,
    card_of,
    card_with,
    choose,
    choose_baked,
)
from vfio_kit.errors import Refused, UsageError
from vfio_kit.knowledge.guest_memory import LEAST_MIB
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.provisioning import NO_DRIVER, PROVISIONED_DISK_GIB
from vfio_kit.model import Finding, GpuReport, Host, Level, PciAddress, PciDevice
from vfio_kit.model.placement import Claim, CpuTopology
from vfio_kit.model.vm import BakedImage, CudaWay, DeviceIdentity, DomainPlan, Software, UpPlan
from vfio_kit.plan.domain import DISK_SLOT as DISK_SLOT
from vfio_kit.plan.domain import FIRST_PORT_SLOT as FIRST_PORT_SLOT
from vfio_kit.plan.domain import NET_SLOT as NET_SLOT
from vfio_kit.plan.domain import SEED_SLOT as SEED_SLOT
from vfio_kit.plan.domain import domain_of
from vfio_kit.plan.domain import place as place
from vfio_kit.plan.memory import memory_for
from vfio_kit.plan.placement import Demand, place_guest
from vfio_kit.plan.steps import steps_of

if TYPE_CHECKING:
    from vfio_kit.spec import BakeSpec, GuestSpec

STATE_DIR = "/var/lib/vfio-kit"
IMAGE_DIR = "/var/lib/libvirt/images"
_OF_AMD = ("AuthenticAMD", "HygonGenuine")


def make_plan(
    host: Host,
    spec: "GuestSpec",
    *,
    state_dir: str = STATE_DIR,
    image_dir: str = IMAGE_DIR,
    tolerated: frozenset[str] = frozenset(),
    baked: BakedImage | None = None,
    claims: tuple[Claim, ...] = (),
    host_id: str = "",
) -> UpPlan:
    """Decides everything that `up` will do.

    tolerated  codes of findings that do not refuse.
    baked      what the image holds; None for one that the seed is to install in.
    claims     what other VMs have.
    host_id    tells this host from others; the VM's UUID and MAC address come from it and its name.

    Raises UsageError for an address that is no GPU of this host or gone when the others go, and for
    an image that was made for something else; Refused for a GPU that cannot go or that another VM
    has, and for a driver or a CUDA that is none for it.
    """
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
    functions = tuple(_distinct(report.functions for report in reports))
    # First of all: of a GPU that a VM has the findings say that some process has it.
    _require_unclaimed(functions, claims)
    _refuse(reports, findings)
    _require_existence(functions)
    cards = tuple(card_of(function) for function in functions if function.is_gpu)
    wanted = _wanted(spec)
    choice = choose_baked(wanted, baked, cards) if baked else choose(wanted, cards)
    memory, sized = (spec.memory, ()) if spec.memory else memory_for(functions)
    domain = domain_of(spec, memory, choice.software, functions, image_dir, host_id)
    placement, placed = place_guest(host.platform, _demand(spec, domain, functions), claims)
    placement = replace(placement, topology=_with_topoext(placement.topology, host.cpu_vendor))
    choice = replace(choice, findings=(*findings, *choice.findings, *sized, *placed))
    return _assembled(spec, choice, functions, state_dir, replace(domain, placement=placement))


def make_bake_plan(
    spec: "BakeSpec", *, state_dir: str = STATE_DIR, image_dir: str = IMAGE_DIR
) -> UpPlan:
    """Decides what `bake` will do: the VM of the spec, without its GPUs, with all its software.

    Raises Refused and UsageError as make_plan does, for cards of the spec's compute capabilities.
    """
    spec = _of_the_image(spec)
    cards = tuple(card_with(capability) for capability in sorted(set(spec.capabilities)))
    choice = choose(_wanted(spec), cards)
    domain = domain_of(spec, spec.memory or LEAST_MIB, choice.software, (), image_dir)
    return _assembled(spec, choice, (), state_dir, domain)


def _of_the_image(spec: "BakeSpec") -> "BakeSpec":
    """Without what a spec has of the VM that `up` makes of the image, as it may be one for both."""
    ssh = spec.ssh.model_copy(update={"identity": None})
    return spec.model_copy(update={"autostart": False, "roms": {}, "ssh": ssh})


def _wanted(spec: "GuestSpec") -> Wanted:
    """What the spec says of the software; its defaults are not said."""
    said = spec.model_fields_set
    return Wanted(
        guest=spec.guest,
        driver=spec.driver if "driver" in said else None,
        cuda=spec.cuda,
        cuda_way=CudaWay(spec.cuda_way),
        packages=tuple(spec.packages),
        bundle=spec.bundle,
    )


def _demand(spec: "GuestSpec", domain: DomainPlan, functions: tuple[PciDevice, ...]) -> Demand:
    pages = domain.hugepages
    return Demand(
        domain.cpus,
        domain.memory_mib,
        pages.size_kib if pages else None,
        functions,
        spec.placement.pin,
        spec.placement.node,
    )


def _with_topoext(topology: CpuTopology, cpu_vendor: str) -> CpuTopology:
    """The topology, with the feature that tells an AMD guest of threads where it has some."""
    return replace(topology, topoext=topology.threads > 1 and cpu_vendor in _OF_AMD)


def _assembled(
    spec: "GuestSpec",
    choice: Choice,
    functions: tuple[PciDevice, ...],
    state_dir: str,
    domain: DomainPlan,
) -> UpPlan:
    state = str(PurePosixPath(state_dir) / spec.name)
    return UpPlan(
        domain=domain,
        guest=spec.guest,
        user=spec.ssh.user or GUESTS[spec.guest].user,
        software=choice.software,
        image=spec.image or "",
        disk_gib=_disk_gib(spec.disk, choice.software),
        state_dir=state,
        gpus=spec.addresses if functions else (),
        devices=tuple(map(identity_of, functions)),
        authorized_keys=tuple(spec.ssh.authorized_keys),
        steps=steps_of(spec, domain, choice.software, functions, state),
        findings=choice.findings,
        autostart=spec.autostart,
        identity=spec.ssh.identity,
    )


def identity_of(function: PciDevice) -> DeviceIdentity:
    """What is remembered of a function, to know it again."""
    subsystem = None
    if function.subsystem_vendor_id is not None and function.subsystem_device_id is not None:
        subsystem = f"{function.subsystem_vendor_id:04x}:{function.subsystem_device_id:04x}"
    return DeviceIdentity(
        function.address,
        function.ids,
        function.driver,
        function.name,
        subsystem,
        function.class_code,
        function.iommu_group,
        function.upstream,
        function.numa_node,
    )


def _disk_gib(asked_for: int | None, software: Software) -> int | None:
    """What is installed does not fit into a cloud image's own 2 to 3 GiB; a baked one has it."""
    installs = software.driver != NO_DRIVER or software.packages
    if asked_for is not None or software.baked or not installs:
        return asked_for
    return PROVISIONED_DISK_GIB[software.cuda_way if software.cuda else CudaWay.PACKAGES]


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


def _require_unclaimed(functions: tuple[PciDevice, ...], claims: tuple[Claim, ...]) -> None:
    """Raises Refused for a function that another VM has; names that."""
    for claim in claims:
        taken = [f for f in functions if f.address in claim.functions]
        if taken:
            names = ", ".join(f"{f.address} ({f.name or f.ids})" for f in taken)
            raise Refused(
                f"{names}: the VM {claim.vm} has {'it' if len(taken) == 1 else 'them'}",
                f"take another GPU, or take that VM down first: vfio-kit down {claim.vm}",
            )


def _distinct(functions: Iterable[tuple[PciDevice, ...]]) -> list[PciDevice]:
    """All functions that go, by address, each once: two GPUs of a spec may share a slot."""
    by_address = {f.address: f for several in functions for f in several}
    return [by_address[address] for address in sorted(by_address)]
