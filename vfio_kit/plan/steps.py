"""PURE: the steps of a plan."""

from typing import TYPE_CHECKING

from vfio_kit.knowledge.provisioning import NO_DRIVER
from vfio_kit.model import PciDevice
from vfio_kit.model.placement import Hugepages
from vfio_kit.model.vm import DomainPlan, Software, Step, StepKind

if TYPE_CHECKING:
    from vfio_kit.spec import GuestSpec


def steps_of(
    spec: "GuestSpec",
    domain: DomainPlan,
    software: Software,
    functions: tuple[PciDevice, ...],
    state: str,
) -> tuple[Step, ...]:
    """What `up` does, in order, and what undoes each step; the VM is recorded in `state`."""
    moves = ", ".join(f"{f.address} from {f.driver or 'no driver'}" for f in functions)
    back = ", ".join(f"{f.address} to {f.driver or 'no driver'}" for f in functions)
    pages = domain.hugepages
    steps = [
        Step(StepKind.STATE, f"record the VM in {state}", "none: it stays to be read; down --purge")
    ]
    if pages:
        what = f"make {_pages(domain, pages)} ({domain.memory_mib} MiB)"
        steps.append(Step(StepKind.HUGEPAGES, what, "give back the pages that were added"))
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
        Step(
            StepKind.SEED,
            f"write the cloud-init seed {domain.seed}"
            + (f", and {spec.bundle} as {domain.bundle}" if domain.bundle else ""),
            "remove the seed" + (" and the bundle" if domain.bundle else ""),
        ),
        Step(StepKind.DEFINE, f"define the libvirt domain {domain.name}", "undefine the domain"),
        *_autostart(spec, domain.name),
        Step(
            StepKind.START,
            f"start it; libvirt binds to vfio-pci: {moves}" if functions else "start it",
            f"stop it; libvirt gives back: {back}" if functions else "stop it",
        ),
        Step(
            StepKind.WAIT,
            "wait for SSH with the host key made above, and for cloud-init" + _installed(software),
            "",
        ),
    ]
    return tuple(steps)


def _pages(domain: DomainPlan, pages: Hugepages) -> str:
    """How many pages are to be free, and on which nodes."""
    kind = f"hugepages of {pages.size.words} free"
    there = domain.placement.pages if domain.placement else ()
    if not there:
        return f"{pages.count} {kind}"
    (node, count), *rest = there
    return ", ".join([f"{count} {kind} on node {node}", *(f"{n} on node {at}" for at, n in rest)])


def _autostart(spec: "GuestSpec", name: str) -> list[Step]:
    if not spec.autostart:
        return []
    what = f"have the host start it when it boots: systemctl enable vfio-kit@{name}.service"
    return [Step(StepKind.AUTOSTART, what, f"systemctl disable vfio-kit@{name}.service")]


def _installed(software: Software) -> str:
    """What the first boot has to do beside itself."""
    if software.baked:
        return "; the image has all its software"
    parts = [] if software.driver == NO_DRIVER else [f"driver {software.driver}"]
    parts += [f"CUDA {software.cuda}"] if software.cuda else []
    parts += software.packages
    if not parts:
        return ""
    return f", which installs {', '.join(parts)} from {software.bundle or 'the network'}"
