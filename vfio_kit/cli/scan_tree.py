"""What `scan --tree` draws: root buses, ports, switches and functions, with their groups.

Drawn is what a passthrough touches: the GPUs, their slots, the members of their groups, and the
bridges above all of these.
"""

from collections.abc import Iterator

import click

from vfio_kit.cli.scan_report import COLOURS
from vfio_kit.knowledge.pci_classes import class_name
from vfio_kit.model import GpuReport, Host, PciAddress, PciDevice, PcieType

_PORTS = {
    PcieType.ROOT_PORT: "root port",
    PcieType.UPSTREAM_PORT: "switch upstream port",
    PcieType.DOWNSTREAM_PORT: "switch downstream port",
    PcieType.PCIE_TO_PCI_BRIDGE: "PCIe-to-PCI bridge",
    PcieType.PCI_TO_PCIE_BRIDGE: "PCI-to-PCIe bridge",
}


def draw_tree(host: Host, reports: tuple[GpuReport, ...]) -> Iterator[str]:
    """The lines of the drawing; empty for a host without GPUs."""
    drawn = _drawn(host, reports)
    roots: dict[str, list[PciAddress]] = {}
    children: dict[PciAddress, list[PciAddress]] = {}
    for address in sorted(drawn):
        device = host.device(address)
        above = device.upstream if device is not None else ()
        if above:
            children.setdefault(above[-1], []).append(address)
        else:
            roots.setdefault(f"pci{address.domain:04x}:{address.bus:02x}", []).append(address)
    by_address = {report.gpu.address: report for report in reports}
    for root, members in roots.items():
        yield root
        yield from _branches(host, members, children, by_address, "")


def _drawn(host: Host, reports: tuple[GpuReport, ...]) -> set[PciAddress]:
    near = {
        device.address
        for report in reports
        for device in (*report.functions, *report.foreign_endpoints, *report.bridges)
    }
    devices = [device for device in map(host.device, near) if device is not None]
    return near | {above for device in devices for above in device.upstream}


def _branches(
    host: Host,
    members: list[PciAddress],
    children: dict[PciAddress, list[PciAddress]],
    reports: dict[PciAddress, GpuReport],
    indent: str,
) -> Iterator[str]:
    for address in members:
        last = address == members[-1]
        device = host.device(address)
        text = str(address) if device is None else _node(device, reports.get(address))
        yield f"{indent}{'└─' if last else '├─'} {text}"
        # Taken out, so that a tree that is none (a malformed snapshot) ends.
        below = children.pop(address, [])
        deeper = indent + ("   " if last else "│  ")
        yield from _branches(host, below, children, reports, deeper)


def _node(device: PciDevice, report: GpuReport | None) -> str:
    words = [str(device.address)]
    if device.is_bridge:
        words.append(_port(device))
    else:
        words.append(f"{device.name or class_name(device.pci_class)} [{device.ids}]")
    group = "no group" if device.iommu_group is None else f"group {device.iommu_group}"
    words.append(f"{group}, {device.driver}" if device.driver else group)
    if report is not None:
        verdict = click.style(report.verdict.value, fg=COLOURS[report.verdict], bold=True)
        words.append(f"← {verdict}")
    return "  ".join(words)


def _port(device: PciDevice) -> str:
    config = device.config
    kind = class_name(device.pci_class)
    if config is None or config.pcie_type is None:
        return kind
    kind = next((name for port, name in _PORTS.items() if port == config.pcie_type), kind)
    if config.acs is not None:
        return f"{kind}, ACS {config.acs.control & config.acs.capability:04x}"
    return f"{kind}, no ACS" if config.extended_read else kind
