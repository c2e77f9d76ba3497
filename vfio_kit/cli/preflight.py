"""What `up` looks at before it changes anything: the last look, at the host as it is now."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vfio_kit.errors import Refused, UsageError
from vfio_kit.knowledge.provisioning import NO_DRIVER
from vfio_kit.model.vm import CudaWay

if TYPE_CHECKING:
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.apply.steps import Work
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


def require_down(folder: "VmFolder") -> None:
    """Raises UsageError where the VM is up, or is not taken down to the end."""
    if folder.outstanding():
        raise UsageError(
            f"{folder.name!r} is up, or half up, already", f"vfio-kit down {folder.name}"
        )


def prepare(plan: "UpPlan", folder: "VmFolder", hypervisor: "Hypervisor") -> "Work":
    """Looks once more at everything that could stand in the way; changes nothing."""
    from vfio_kit.apply.bundle import examine_bundle
    from vfio_kit.apply.files import require_reachable
    from vfio_kit.apply.images import examine_image, require_fit
    from vfio_kit.apply.steps import Work
    from vfio_kit.render import render

    _require_free_name(plan, folder, hypervisor)
    _require_free_gpus(plan, hypervisor)
    _require_room(plan)
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
        None if bundle is None else examine_bundle(Path(bundle)),
    )


def _require_free_name(plan: "UpPlan", folder: "VmFolder", hypervisor: "Hypervisor") -> None:
    name = plan.domain.name
    require_down(folder)
    if hypervisor.domain(name) is not None:
        raise UsageError(
            f"libvirt has a domain {name!r} already, and vfio-kit did not make it",
            "choose another name",
        )


def _require_free_gpus(plan: "UpPlan", hypervisor: "Hypervisor") -> None:
    taken = hypervisor.passed_through()
    for device in plan.devices:
        user = taken.get(str(device.address))
        if user is not None:
            raise Refused(
                f"{device.address} ({device.name or device.ids}) is in the running VM {user!r}",
                f"end that VM first: vfio-kit down {user}, or virsh shutdown {user}",
            )


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


def _require_room(plan: "UpPlan") -> None:
    from vfio_kit.apply.files import require_reachable, require_space
    from vfio_kit.apply.memory import require_memory, require_mount

    domain = plan.domain
    for path, what in ((domain.boot.kernel, "kernel"), (domain.boot.initrd, "initrd")):
        if path:
            require_reachable(Path(path), what)
    require_space(Path(domain.disk).parent, disk_mib(plan.software))
    if domain.hugepages:
        require_mount(domain.hugepages)
    require_memory(domain)
