"""What `up` looks at before it changes anything: the last look, at the host as it is now."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfio_kit.cli.common import read_named_host
from vfio_kit.errors import Refused, UsageError
from vfio_kit.knowledge.provisioning import NO_DRIVER
from vfio_kit.model.vm import CudaWay

if TYPE_CHECKING:
    from vfio_kit.apply.bundle import Bundle
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.apply.steps import Work
    from vfio_kit.model import Host
    from vfio_kit.model.placement import Claim
    from vfio_kit.model.vm import Software, UpPlan


def require_files(plan: "UpPlan") -> None:
    """What the operator has to give, before anything is connected to or locked."""
    # os.path, and not Path: that one raises for a name that is too long.
    if plan.software.bundle and not os.path.isdir(plan.software.bundle):  # noqa: PTH112
        raise UsageError(
            f"no folder {plan.software.bundle}",
            "--bundle takes the folder that make-bundle.sh filled",
        )
    if not plan.image:
        raise UsageError(
            f"no image was given, and none of {plan.guest} was fetched",
            f"vfio-kit image fetch {plan.guest}; or --image FILE, or image = … in the spec",
        )
    boot = plan.domain.boot
    for path, what in ((boot.kernel, "kernel"), (boot.initrd, "initrd")):
        if path and not os.path.isfile(path):  # noqa: PTH113
            raise UsageError(f"no {what} at {path}", "give the path of a file that is there")
    _require_key_and_roms(plan)


def _require_key_and_roms(plan: "UpPlan") -> None:
    if plan.identity is not None:
        from vfio_kit.apply.keys import load_key

        load_key(Path(plan.identity))
    if any(device.rom for device in plan.domain.host_devices):
        from vfio_kit.apply.rom import examine_roms

        examine_roms(plan.domain.host_devices, plan.devices)


def require_as_looked_at(looked_at: Mapping[str, Any] | None, plan: "UpPlan") -> None:
    """Raises Refused where the plan is not the one of this document, if there is one."""
    if looked_at is None:
        return
    from vfio_kit.plan.document import differences

    changes = differences(looked_at, plan)
    if changes:
        raise Refused(
            f"the plan is not any more what was looked at: {'; '.join(changes)}",
            "look at it again: vfio-kit plan, with these options",
        )


def require_down(folder: "VmFolder") -> None:
    """Raises UsageError where the VM is up, or is not taken down to the end."""
    if folder.outstanding():
        raise UsageError(
            f"{folder.name!r} is up, or half up, already", f"vfio-kit down {folder.name}"
        )


def prepare(plan: "UpPlan", folder: "VmFolder", hypervisor: "Hypervisor") -> "Work":
    """Looks once more at everything that could stand in the way; changes nothing.

    To be called with the host's lock held: what is free now is free until it is taken.
    """
    from vfio_kit.apply.claims import claims_of
    from vfio_kit.apply.files import require_reachable
    from vfio_kit.apply.images import examine_image, require_fit
    from vfio_kit.apply.steps import Work
    from vfio_kit.render import render

    _require_free_name(plan, folder, hypervisor)
    _require_free_gpus(plan, folder, hypervisor)
    claims = claims_of(folder.path.parent, but=folder.name)
    require_free_cpus(plan, claims)
    host = read_named_host(Path("/"))
    require_no_drift(plan, host)
    _require_room(plan, host, claims)
    _require_units(plan, folder)
    hypervisor.require_network(plan.domain.network)
    image = examine_image(Path(plan.image))
    require_reachable(Path(plan.image), "image")
    require_fit(image, plan.disk_gib)
    bundle = plan.software.bundle
    examined = replace(plan, domain=replace(plan.domain, backing=image))
    return Work(
        plan,
        folder,
        hypervisor,
        image,
        render("libvirt", examined)[0].text,
        lambda keys: render("cloud-init", plan, keys),
        None if bundle is None else _examined(Path(bundle)),
    )


def _examined(bundle: Path) -> "Bundle":
    from vfio_kit.apply.bundle import examine_bundle

    return examine_bundle(bundle)


def require_no_drift(plan: "UpPlan", host: "Host") -> None:
    """Raises Refused, with all that has changed, where the host is not as it was planned for.

    host  as it is now: what was planned may be minutes or days old.
    """
    from vfio_kit.analysis.drift import drift, new_obstacles

    changes = drift(plan.devices, host)
    at_home = [(device := host.device(gpu)) is not None and device.is_gpu for gpu in plan.gpus]
    judged = bool(at_home) and all(at_home)
    obstacles = new_obstacles(host, plan.gpus, plan.findings) if judged else ()
    said = (*changes, *(f"{found.message} ({found.code})" for found in obstacles))
    if said:
        hints = dict.fromkeys(found.hint for found in obstacles if found.hint)
        raise Refused(
            f"the host is not as it was planned for: {'; '.join(said)}",
            "\n".join(hints) or "look at it anew: vfio-kit scan, vfio-kit plan; then decide again",
        )


class CpusTaken(Refused):
    """Another VM got host CPUs since the plan was made; one that is made now has others."""


def require_free_cpus(plan: "UpPlan", claims: Iterable["Claim"]) -> None:
    """Raises CpusTaken where another VM has got host CPUs that were planned for this one."""
    placement = plan.domain.placement
    pinned = placement.cpus if placement else frozenset()
    for claim in claims:
        shared = sorted(pinned & claim.cpus)
        if shared:
            raise CpusTaken(
                f"the VM {claim.vm!r} has host CPUs that were planned for {plan.domain.name!r}: "
                f"{', '.join(map(str, shared))}",
                "plan again: repeat the command; or --no-pin",
            )


def _require_free_name(plan: "UpPlan", folder: "VmFolder", hypervisor: "Hypervisor") -> None:
    name = plan.domain.name
    require_down(folder)
    if hypervisor.domain(name) is not None:
        raise UsageError(
            f"libvirt has a domain {name!r} already, and vfio-kit did not make it",
            "choose another name",
        )


def _require_free_gpus(plan: "UpPlan", folder: "VmFolder", hypervisor: "Hypervisor") -> None:
    """No other VM has the devices: of ours by what they wrote down, of the rest by libvirt."""
    from vfio_kit.apply.claims import require_free

    names = ((device.address, device.name or device.ids) for device in plan.devices)
    require_free(folder.path.parent, folder.name, names, hypervisor.passed_through())


def _require_units(plan: "UpPlan", folder: "VmFolder") -> None:
    """Raises HostError where the host could not start the VM when it boots, and shall."""
    if plan.autostart:
        from vfio_kit.apply import service

        service.prepare_for(plan, folder.path.parent)


_DISK_MIB = 256
"""What the overlay of a guest that boots and installs nothing grows to, with some to spare."""
_PACKAGES_DISK_MIB = 1024
"""What packages of the distribution add; nobody knows which they are."""
_DRIVER_DISK_MIB = 3 * 1024
"""What a driver adds with its headers and a compiler; it has 2 GiB within the guest, too."""
_CUDA_DISK_MIB = {CudaWay.PACKAGES: 4 * 1024, CudaWay.RUNFILE: 12 * 1024}
"""What CUDA adds: an installer is unpacked, and removed afterwards."""


def disk_mib(software: "Software") -> int:
    """What the overlay of a guest with this software grows to, at the most, in MiB."""
    needed = _DISK_MIB
    if software.baked:
        return needed
    if software.driver != NO_DRIVER:
        needed += _DRIVER_DISK_MIB
    if software.cuda is not None:
        needed += _CUDA_DISK_MIB[software.cuda_way]
    return needed + (_PACKAGES_DISK_MIB if software.packages else 0)


def _require_room(plan: "UpPlan", host: "Host", claims: tuple["Claim", ...]) -> None:
    from vfio_kit.apply.files import require_reachable, require_space, require_trusted
    from vfio_kit.apply.memory import require_memory, require_mount

    domain = plan.domain
    for path, what in ((domain.boot.kernel, "kernel"), (domain.boot.initrd, "initrd")):
        if path:
            require_reachable(Path(path), what)
    require_trusted(Path(domain.disk).parent, "image directory")
    require_space(Path(domain.disk).parent, disk_mib(plan.software))
    if domain.hugepages:
        require_mount(domain.hugepages)
    require_memory(domain, host.platform.nodes, claims=claims)
