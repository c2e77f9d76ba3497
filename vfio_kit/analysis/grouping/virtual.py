"""SR-IOV, mediated devices, VMD, Thunderbolt: devices that are more or less than a PCI card."""

from vfio_kit.analysis.describe import describe, is_free
from vfio_kit.analysis.grouping.upstream import vmd_above
from vfio_kit.knowledge.findings import (
    BEHIND_VMD,
    EXTERNAL,
    HAS_MEDIATED_DEVICES,
    HAS_VIRTUAL_FUNCTIONS,
    VIRTUAL_FUNCTION,
    finding,
)
from vfio_kit.model import Finding, Host, PciAddress, PciDevice


def virtual_findings(host: Host, functions: tuple[PciDevice, ...]) -> list[Finding]:
    """What is particular about the functions that go."""
    found = []
    for function in functions:
        if function.physical_function is not None:
            found.append(_virtual_function(host, function, function.physical_function))
        if function.virtual_functions > 0:
            found.append(_has_virtual_functions(host, function))
        if function.mediated_devices:
            found.append(_has_mediated_devices(function, function.mediated_devices))
    # What is true of the slot is said once.
    vmd = vmd_above(host, functions[0])
    if vmd is not None:
        found.append(_behind_vmd(functions[0], vmd))
    external = next((function for function in functions if function.external), None)
    if external is not None:
        found.append(_external(external))
    return found


def _virtual_function(host: Host, function: PciDevice, physical: PciAddress) -> Finding:
    parent = host.device(physical)
    named = str(physical) if parent is None else describe(parent)
    if parent is None:
        hint = f"the driver of {physical} must stay while the guest runs"
    elif is_free(parent):
        hint = (
            f"no driver of the host runs {physical}"
            f"{f', {parent.driver} has it' if parent.driver else ''}: without its own driver a "
            "virtual function may not work; bind it first"
        )
    else:
        hint = (
            f"driver {parent.driver} of {physical} must stay while the guest runs: do not give "
            f"{physical} away, and do not update its driver meanwhile"
        )
    return finding(
        VIRTUAL_FUNCTION,
        function.address,
        f"{function.address} is an SR-IOV virtual function of {named}",
        hint,
    )


def _has_virtual_functions(host: Host, function: PciDevice) -> Finding:
    count = function.virtual_functions
    known = [str(d.address) for d in host.virtual_functions_of(function.address)]
    which = f": {', '.join(known)}" if known and len(known) == count else ""
    are = "virtual function is" if count == 1 else "virtual functions are"
    return finding(
        HAS_VIRTUAL_FUNCTIONS,
        function.address,
        f"{count} SR-IOV {are} switched on at {function.address}{which}; with its driver they go, "
        "and whoever uses them loses them",
        f"switch them off: echo 0 | sudo tee {_sysfs(function)}/sriov_numvfs; or give a virtual "
        f"function instead; or, where nobody needs them, --accept-loss {function.address}",
    )


def _has_mediated_devices(function: PciDevice, count: int) -> Finding:
    exist = "mediated device (vGPU) exists" if count == 1 else "mediated devices (vGPU) exist"
    return finding(
        HAS_MEDIATED_DEVICES,
        function.address,
        f"{count} {exist} on {function.address}; with its driver they go, and so do the guests "
        "that use them",
        f"remove them: ls {_sysfs(function)}/mdev_supported_types/*/devices, and echo 1 to each "
        f"one's remove; or, where nobody needs them, --accept-loss {function.address}",
    )


def _behind_vmd(function: PciDevice, vmd: PciDevice) -> Finding:
    return finding(
        BEHIND_VMD,
        function.address,
        f"{function.address} sits behind the Intel VMD controller {describe(vmd)}: on the bus it "
        "speaks in the controller's name, so it cannot be handed over alone",
        "switch VMD off for that slot in the firmware set-up (VMD, RST or RAID mode); the device "
        "then appears in domain 0000",
    )


def _external(function: PciDevice) -> Finding:
    return finding(
        EXTERNAL,
        function.address,
        f"{function.address} can be unplugged: it is connected by Thunderbolt, USB4 or a hot-plug "
        "slot outside the case",
        "leave it plugged in while the guest runs; with Thunderbolt authorise it at boot (boltctl "
        "enroll), and remember that its address may differ after the next start",
    )


def _sysfs(function: PciDevice) -> str:
    return f"/sys/bus/pci/devices/{function.address}"
