"""Whether a device comes back: how it is reset, what that hits, and whether it is awake."""

import re

from vfio_kit.analysis.describe import describe
from vfio_kit.knowledge.findings import BUS_RESET_SCOPE, LOST, NO_RESET, POWERED_DOWN, finding
from vfio_kit.model import Finding, Host, PciAddress, PciDevice

_FIRST_WITH_METHODS = (5, 15)
"""The kernel that introduced `reset_method`; it shows the file only of functions that have one
(pci_dev_reset_method_attr_is_visible)."""
_WHOLE_BUS = ("bus", "cxl_bus")


def reset_findings(
    host: Host,
    gpu: PciDevice,
    functions: tuple[PciDevice, ...],
    along: frozenset[PciAddress] = frozenset(),
) -> list[Finding]:
    """Of the first function of the slot: the kernel looks for a reset of the bus with that one."""
    first = functions[0]
    if _no_method(host, first):
        return [
            finding(
                NO_RESET,
                gpu.address,
                f"{first.address} offers no reset method; it may survive one boot only",
                "a host reboot resets it",
            )
        ]
    methods = first.reset_methods or ()
    going = along.union(function.address for function in functions)
    staying = _staying_below_the_same_bridge(host, first, going)
    if not methods or methods[0] not in _WHOLE_BUS or not staying:
        return []
    return [
        finding(
            BUS_RESET_SCOPE,
            gpu.address,
            f"{first.address} is reset with its whole bus alone, which also holds "
            f"{'; '.join(map(describe, staying))}: while that stays with the host, the GPU is not "
            "reset, and may survive one boot only",
            "put the GPU into a slot with a root port of its own; a host reboot resets it too",
        )
    ]


def _no_method(host: Host, device: PciDevice) -> bool:
    if device.reset_methods is not None:
        return device.reset_methods == ()
    attribute = f"/sys/bus/pci/devices/{device.address}/reset_method"
    if any(problem.path == attribute for problem in host.problems):
        return False  # it is there, and could not be read: nobody knows
    version = re.match(r"(\d+)\.(\d+)", host.kernel_release)
    return version is not None and (int(version[1]), int(version[2])) >= _FIRST_WITH_METHODS


def _staying_below_the_same_bridge(
    host: Host, function: PciDevice, going: frozenset[PciAddress]
) -> list[PciDevice]:
    """Endpoints that stay, at any depth below the bridge whose bus would be reset."""
    return [
        device
        for bridge in function.upstream[-1:]
        for device in host.below(bridge)
        if device.address not in going and not device.is_bridge
    ]


def power_findings(gpu: PciDevice, functions: tuple[PciDevice, ...]) -> list[Finding]:
    """D3hot is how an idle device sleeps, and `unknown` how one without a driver is shown."""
    for function in functions:
        lost = _lost(function)
        if lost:
            return [
                finding(
                    LOST,
                    gpu.address,
                    f"{function.address} {lost}",
                    "switch the host off and on, not only restart it; if it is lost again, look at "
                    "its power connectors and its riser",
                )
            ]
    for function in functions:
        if function.power_state == "D3cold":
            by = f", as its driver {function.driver} does to save power" if function.driver else ""
            path = f"/sys/bus/pci/devices/{function.address}"
            return [
                finding(
                    POWERED_DOWN,
                    gpu.address,
                    f"{function.address} is in D3cold, without power{by}: VFIO wakes it, and one "
                    "that does not wake up is lost until the host is switched off",
                    f"wake it: echo on | sudo tee {path}/power/control; cat {path}/power_state "
                    "must say D0, else switch the host off and on; to keep it awake: "
                    f"echo 0 | sudo tee {path}/d3cold_allowed",
                )
            ]
    return []


def _lost(function: PciDevice) -> str:
    """What says that a function does not answer; empty where nothing does."""
    state = function.power_state
    if function.silent:
        return "gives 0xff for all of its config space: it does not answer"
    if state == "D3cold" and function.d3cold_allowed is False:
        return "is in D3cold, which it may not enter: it has fallen off the bus, or lost its power"
    if state == "error" or (state == "unknown" and function.driver is not None):
        return f"is in power state {state!r}: it does not answer"
    return ""
