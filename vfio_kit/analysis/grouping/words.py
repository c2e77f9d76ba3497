"""Why a group is as it is, in words: the findings VK105 to VK108."""

from vfio_kit.analysis.describe import describe, listed
from vfio_kit.analysis.grouping.acs import (
    Isolation,
    conventional_bridge,
    is_switched_off,
    isolation,
    port_type,
    what_it_lacks,
)
from vfio_kit.knowledge.architectures import POWER
from vfio_kit.knowledge.findings import (
    ACS_UNREADABLE,
    CONVENTIONAL_BRIDGE,
    FUNCTIONS_WITHOUT_ACS,
    PORT_WITHOUT_ACS,
    finding,
)
from vfio_kit.knowledge.pci_classes import class_name
from vfio_kit.model import Finding, Host, PciDevice, PcieType

Devices = tuple[PciDevice, ...]

_MOST_NAMED = 8
_ACS_PARAMETERS = ("disable_acs_redir", "config_acs")
_NOT_PCI_RULES = (*POWER, "s390x")


def conventional_finding(
    host: Host, gpu: PciDevice, culprit: Devices, others: Devices, foreign: Devices
) -> Finding:
    """VK105: a bridge to conventional PCI, which hides from the IOMMU who is asking."""
    (bridge,) = culprit
    return finding(
        CONVENTIONAL_BRIDGE,
        bridge.address,
        f"{describe(bridge)} is a {conventional_bridge(bridge)}: the IOMMU cannot tell apart what "
        f"is below it, so {gpu.address} shares its group with {_addresses(foreign)}"
        f"{_as_well(others)}",
        f"no setting mends it: put the GPU into a PCI Express slot{_free_port(host)}, or take "
        "what else is below that bridge out",
    )


def port_finding(
    host: Host, gpu: PciDevice, culprit: Devices, others: Devices, foreign: Devices
) -> Finding:
    """VK106: a root port or a downstream port of a switch."""
    (port,) = culprit
    return finding(
        PORT_WITHOUT_ACS,
        port.address,
        f"{describe(port)} is a {port_type(port)} that {what_it_lacks(port)}: what is below it can "
        f"reach its peers past the IOMMU, so {gpu.address} shares its group with "
        f"{_addresses(foreign)}{_as_well(others)}",
        _another_slot(host, culprit),
    )


def switch_finding(
    host: Host, gpu: PciDevice, culprit: Devices, others: Devices, foreign: Devices
) -> Finding:
    """VK106: downstream ports of one switch, between which it forwards."""
    return finding(
        PORT_WITHOUT_ACS,
        culprit[0].address,
        f"the switch that {gpu.address} is behind forwards between its ports past the IOMMU, so it "
        f"shares its group with {_addresses(foreign)}: {_each_lacks(culprit)}{_as_well(others)}",
        _another_slot(host, culprit),
    )


def functions_finding(
    host: Host, gpu: PciDevice, culprit: Devices, others: Devices, foreign: Devices
) -> Finding:
    """VK107: functions of one device that nothing keeps apart."""
    several = len(culprit) > 1
    who = "are functions of one device" if several else "is one function of several in a device"
    return finding(
        FUNCTIONS_WITHOUT_ACS,
        culprit[0].address,
        f"{_named(culprit)} {who} that can reach each other past the IOMMU, so {gpu.address} "
        f"shares its group with {_addresses(foreign)}: {_each_lacks(culprit)}{_as_well(others)}",
        _another_slot(host, culprit),
    )


def unread_finding(gpu: PciDevice, foreign: Devices, suspects: Devices) -> Finding:
    """VK108: what may join them could not be read."""
    first = suspects[0]
    config = first.config
    if config is None:
        reason = f"there was no config space of {describe(first)} to read"
        hint = "run as root (sudo); a device that sleeps in D3cold or is off the bus shows none"
    elif not config.capabilities_read:
        reason = f"the capabilities of {describe(first)} are for root alone to read"
        hint = "run as root: sudo vfio-kit scan"
    else:
        reason = f"the extended config space of {describe(first)}, where ACS stands, was not there"
        hint = (
            "run as root (sudo); if it is the same, the kernel itself reaches none, and takes the "
            "port for one without ACS: see dmesg | grep -i -e ECAM -e MMCONFIG, and do without "
            "pci=nommconf"
        )
    return finding(
        ACS_UNREADABLE,
        gpu.address,
        f"why {gpu.address} shares its group with {_addresses(foreign)} cannot be told: {reason}",
        hint,
    )


def unexplained_finding(host: Host, gpu: PciDevice, foreign: Devices) -> Finding:
    """VK108: nothing that was read joins them."""
    if host.machine in _NOT_PCI_RULES:
        reason = f"on {host.machine} firmware draws the groups, not PCI's rules"
    elif gpu.address.bus > 0 and not gpu.upstream:
        reason = "which bridges are above it could not be read"
    else:
        reason = (
            "by what the config space says nothing joins them; a quirk of the kernel's for one of "
            "these devices, an alias of requester IDs, or a hypervisor's IOMMU may"
        )
    return finding(
        ACS_UNREADABLE,
        gpu.address,
        f"why {gpu.address} shares its group with {_addresses(foreign)} cannot be told: {reason}",
        "the group counts all the same; what the kernel says: dmesg | grep -i -e iommu -e acs",
    )


def _addresses(devices: Devices) -> str:
    """Addresses; of many the first few and how many more."""
    names = [str(device.address) for device in devices]
    if len(names) > _MOST_NAMED:
        return f"{', '.join(names[:_MOST_NAMED])} and {len(names) - _MOST_NAMED} more"
    return listed(names)


def _named(devices: Devices) -> str:
    """Addresses with class, ids and name; what all have in common once."""
    labels = [_label(device) for device in devices]
    if len(set(labels)) == 1:
        return f"{_addresses(devices)} ({labels[0]})"
    return listed([f"{d.address} ({label})" for d, label in zip(devices, labels, strict=True)])


def _label(device: PciDevice) -> str:
    name = f" {device.name}" if device.name else ""
    return f"{class_name(device.pci_class)} [{device.ids}]{name}"


def _each_lacks(devices: Devices) -> str:
    predicates = {what_it_lacks(device) for device in devices}
    if len(predicates) == 1 and len(devices) > 1:
        return f"each {predicates.pop()}"
    return ", ".join(f"{device.address} {what_it_lacks(device)}" for device in devices)


def _as_well(others: Devices) -> str:
    """What is below the culprit and would be the next one."""
    if not others:
        return ""
    named = ", ".join(f"{device.address} ({_kind(device)})" for device in others)
    return f"; below, {named} would join them all the same"


def _kind(device: PciDevice) -> str:
    kind = port_type(device) or class_name(device.pci_class)
    return conventional_bridge(device) or f"{kind} that {what_it_lacks(device)}"


def _another_slot(host: Host, culprit: Devices) -> str:
    hint = f"put the GPU into a slot below another root port{_free_port(host)}"
    if not any(map(is_switched_off, culprit)):
        return f"{hint}; where the firmware set-up offers ACS, enable it"
    parameter = next((word for word in host.cmdline.split() if _turns_off(word)), "")
    if parameter:
        return f"take {parameter} off the kernel's command line, which switches ACS off; or {hint}"
    return f"enable ACS in the firmware set-up; or {hint}"


def _turns_off(word: str) -> bool:
    key, _, values = word.partition("=")
    return key == "pci" and any(parameter in values for parameter in _ACS_PARAMETERS)


def _free_port(host: Host) -> str:
    """A root port that isolates and has nothing below; where none was read, nothing."""
    for device in host.bridges():
        config = device.config
        if config is None or config.pcie_type != PcieType.ROOT_PORT or host.below(device.address):
            continue
        if isolation(device) is Isolation.YES:
            return f" (port {device.address} isolates and is free, if a slot is behind it)"
    return ""
