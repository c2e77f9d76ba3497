"""What a device takes of its surroundings: address space for its BARs, memory near it."""

from collections.abc import Iterable

from vfio_kit.analysis.describe import listed
from vfio_kit.analysis.grouping.boards import board_of
from vfio_kit.knowledge.findings import (
    BAR_UNASSIGNED,
    MMIO_WINDOW,
    NUMA_HUGEPAGES,
    NUMA_UNKNOWN,
    finding,
)
from vfio_kit.model import Bar, Finding, Host, NumaNode, PciDevice

_GIB = 1024**3
_LARGE = 4 * _GIB
"""Bytes of 64-bit BARs from which on the window that firmware opens by itself may not do."""


def mmio_window(devices: Iterable[PciDevice]) -> int:
    """Bytes of the 64-bit MMIO window that a guest with these devices needs; 0 for none.

    The next power of two from twice the sum of their 64-bit BARs: in there all find place at their
    natural alignment, with some left for the bridges above them and for virtual devices. One half
    of a K80 (16 GiB + 32 MiB) takes 64 GiB, two take 128; for four OVMF was measured to need 128
    at least, and they take 256.
    """
    total = 2 * sum(map(_sum_of_64bit, devices))
    return 1 << (total - 1).bit_length() if total else 0


def wide_window(devices: Iterable[PciDevice]) -> int:
    """mmio_window, where what firmware opens by itself may not do; else 0."""
    known = tuple(devices)
    return mmio_window(known) if sum(map(_sum_of_64bit, known)) >= _LARGE else 0


def _sum_of_64bit(device: PciDevice) -> int:
    return sum(bar.size for bar in device.bars if bar.is_64bit and not bar.io)


def bar_findings(host: Host, gpu: PciDevice, functions: tuple[PciDevice, ...]) -> list[Finding]:
    """BARs that the host found no place for, and BARs that a guest needs a wide window for."""
    return [*_unassigned(host, gpu, functions), *_window(host, gpu, functions)]


def _unassigned(host: Host, gpu: PciDevice, functions: tuple[PciDevice, ...]) -> list[Finding]:
    # I/O ports are scarce, and GPUs do without them.
    lost = [
        f"BAR {bar.index} of {function.address} ({_size(bar.size)})"
        for function in functions
        for bar in function.bars
        if bar.unassigned and not bar.io
    ]
    if not lost:
        return []
    tried = "realloc" in host.cmdline
    return [
        finding(
            BAR_UNASSIGNED,
            gpu.address,
            f"{listed(lost)} {'has' if len(lost) == 1 else 'have'} no address: firmware and kernel "
            "found no room, and without it no driver can use the GPU",
            'enable "Above 4G decoding" in the firmware set-up'
            + ("" if tried else "; else add pci=realloc to the kernel command line")
            + "; then reboot",
        )
    ]


def _window(host: Host, gpu: PciDevice, functions: tuple[PciDevice, ...]) -> list[Finding]:
    window = wide_window(functions)
    if not window:
        return []
    bars = [bar for function in functions for bar in function.bars if not bar.io]
    whole = [d for d in map(host.device, board_of(host, gpu)) if d is not None]
    board = mmio_window(whole)
    more = f" ({_size(board)} for all GPUs of its board)" if board > window else ""
    return [
        finding(
            MMIO_WINDOW,
            gpu.address,
            f"the BARs take {' + '.join(map(_bar, bars))}: a guest needs a 64-bit MMIO window of "
            f"{_size(window)}{more}",
            f"in a domain: <pcihole64 unit='KiB'>{window // 1024}</pcihole64>; with OVMF before "
            f"2022.11: -fw_cfg name=opt/ovmf/X-PciMmio64Mb,string={window // 1024**2}",
        )
    ]


def _bar(bar: Bar) -> str:
    return f"{_size(bar.size)} (64-bit)" if bar.is_64bit else _size(bar.size)


def numa_findings(host: Host, gpu: PciDevice) -> list[Finding]:
    """Which node is near the GPU, and its free hugepages; nothing where there is one node."""
    nodes = host.platform.nodes
    if len(nodes) < 2:
        return []
    near = next((node for node in nodes if node.number == gpu.numa_node), None)
    if near is None:
        return [
            finding(
                NUMA_UNKNOWN,
                gpu.address,
                f"firmware does not tell which of the {len(nodes)} NUMA nodes is near "
                f"{gpu.address}: a guest may have its memory on the far one, and run slower",
                "the board's manual tells which socket its slot belongs to",
            )
        ]
    far = [str(node.number) for node in nodes if node is not near and _any_free(node)]
    return [
        finding(
            NUMA_HUGEPAGES,
            gpu.address,
            f"{gpu.address} is near NUMA node {near.number}, {_pages(near, far)}",
            f"to reserve 2 MiB pages there: echo N | sudo tee /sys/devices/system/node/"
            f"node{near.number}/hugepages/hugepages-2048kB/nr_hugepages",
        )
    ]


def _any_free(node: NumaNode) -> bool:
    return any(free for _, free in node.hugepages.values())


def _pages(near: NumaNode, far: list[str]) -> str:
    if _any_free(near):
        free = [
            f"{free} of {there} hugepages of {_size(kib * 1024)}"
            for kib, (there, free) in near.hugepages.items()
            if there
        ]
        return f"where {listed(free)} are free"
    if far:
        return (
            f"and all free hugepages are on node {listed(far)}: a guest in those would reach the "
            "GPU across the link between the nodes"
        )
    return "where no hugepages are free, nor on any other node"


def _size(count: int) -> str:
    for unit, name in ((_GIB, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if count >= unit and count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} bytes"
