"""Boards that carry several GPUs: a Tesla K80 is two, behind a switch of its own."""

from vfio_kit.analysis.grouping.acs import Isolation, isolation, what_it_lacks
from vfio_kit.analysis.grouping.upstream import path
from vfio_kit.knowledge.boards import BOARDS
from vfio_kit.knowledge.findings import DUAL_BOARD, finding
from vfio_kit.model import Finding, Host, PciAddress, PciDevice, PcieType

_LEAST_ABOVE = 3
"""Above a GPU on such a board are a root port, the switch's upstream and its downstream port."""


def board_of(host: Host, gpu: PciDevice) -> tuple[PciAddress, ...]:
    """The addresses of all GPUs of the board, this one included; empty where it is alone.

    One board are GPUs of an id that only boards with several carry, of the same subsystem ids, each
    below a downstream port of one switch that has nothing else below. Where a hypervisor hides the
    switch, none is claimed.
    """
    row = BOARDS.get((gpu.vendor_id, gpu.device_id))
    above = path(host, gpu)
    if row is None or len(above) < _LEAST_ABOVE or len(above) < len(gpu.upstream):
        return ()
    switch = above[-2]
    if not switch.is_bridge or _is_no_switch(switch):
        return ()
    parts = [
        other
        for other in host.below(switch.address)
        if _identity(other) == _identity(gpu) and other.upstream[:-1] == gpu.upstream[:-1]
    ]
    slots = {part.address.slot for part in parts}
    ports = {part.upstream[-1] for part in parts}
    below = (device for device in host.below(switch.address) if not device.is_bridge)
    alone = all(device.address.slot in slots for device in below)
    # Each has a port of its own; more than the row says are more boards than one.
    if not alone or len(ports) != len(parts) or not 2 <= len(parts) <= row.gpus:
        return ()
    return tuple(part.address for part in parts)


def _is_no_switch(bridge: PciDevice) -> bool:
    """Whether a bridge is known to be something else; an ordinary user cannot read what it is."""
    config = bridge.config
    if config is None or not config.capabilities_read:
        return False
    return config.pcie_type != PcieType.UPSTREAM_PORT


def _identity(gpu: PciDevice) -> tuple[int | None, ...]:
    return (gpu.vendor_id, gpu.device_id, gpu.subsystem_vendor_id, gpu.subsystem_device_id)


def board_findings(host: Host, gpu: PciDevice, board: tuple[PciAddress, ...]) -> list[Finding]:
    """VK109: the GPUs of the board, their groups, and whether they may be given to several."""
    row = BOARDS.get((gpu.vendor_id, gpu.device_id))
    parts = [device for device in map(host.device, board) if device is not None]
    if row is None or not parts:
        return []
    named = ", ".join(f"{part.address} ({_group(part)})" for part in parts)
    missing = row.gpus - len(parts)
    seen = f", of which {missing} cannot be seen" if missing else ""
    where, hint = _where_they_may_go(host, gpu, parts)
    return [
        finding(
            DUAL_BOARD,
            gpu.address,
            f"{gpu.address} is one of {row.gpus} GPUs on a {row.name} board{seen}: {named}; "
            f"{where}",
            hint,
        )
    ]


def _where_they_may_go(host: Host, gpu: PciDevice, parts: list[PciDevice]) -> tuple[str, str]:
    """Whether the parts of a board may go to different guests, and the next step."""
    groups = {part.iommu_group for part in parts}
    if None in groups:
        return "none can go without a group", ""
    if len(groups) == len(parts):
        whole = "for one guest with the whole board: " + _asked_for(parts)
        open_ports = _ports_without_acs(host, parts)
        if open_ports:
            return (
                "each has a group of its own, so the kernel lets them go to different guests, "
                f"though they may reach each other past the IOMMU: their switch {open_ports}",
                f"give them to guests that trust each other; {whole}",
            )
        return (
            "each has a group of its own, so they may go to different guests; a bus reset of one "
            "stays below its own port, power and cooling they share",
            whole,
        )
    mates = [part for part in parts if part.iommu_group == gpu.iommu_group]
    return (
        "those that share a group go to one guest, together",
        _asked_for(mates) if len(mates) > 1 else "",
    )


def _ports_without_acs(host: Host, parts: list[PciDevice]) -> str:
    """What the ports of the board's own switch lack; empty where they isolate, or nobody knows.

    The kernel forms groups from the path to the root alone (Linux up to 6.x), so it parts what such
    a switch forwards from port to port.
    """
    ports = [path(host, part)[-1] for part in parts]
    failing = [port for port in ports if isolation(port) is Isolation.NO]
    return what_it_lacks(failing[0]) if failing else ""


def _asked_for(parts: list[PciDevice]) -> str:
    return " ".join(f"--gpu {part.address}" for part in parts)


def _group(part: PciDevice) -> str:
    return "in no group" if part.iommu_group is None else f"group {part.iommu_group}"
