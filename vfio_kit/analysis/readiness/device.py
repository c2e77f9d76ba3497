"""Whether the device is ready to go: reset, power, interrupts, BARs, memory, who holds it.

One finding of a kind for a GPU with its functions, and a remark only where an operator would do
something else for it.
"""

from vfio_kit.analysis.readiness.occupants import driver_findings, holder_findings
from vfio_kit.analysis.readiness.reset import power_findings, reset_findings
from vfio_kit.analysis.readiness.resources import bar_findings, numa_findings
from vfio_kit.knowledge.findings import MSI_ONLY, NO_MSI, finding
from vfio_kit.model import Finding, Host, PciAddress, PciDevice


def device_findings(
    host: Host,
    gpu: PciDevice,
    functions: tuple[PciDevice, ...],
    along: frozenset[PciAddress] = frozenset(),
) -> list[Finding]:
    """The findings about the functions that go (the GPU among them), what blocks first.

    `along`: other functions that go to the same guest.
    """
    return [
        *holder_findings(host, gpu, functions),
        *reset_findings(host, gpu, functions, along),
        *power_findings(gpu, functions),
        *_interrupt_findings(gpu),
        *bar_findings(host, gpu, functions),
        *driver_findings(gpu, functions),
        *numa_findings(host, gpu),
    ]


def _interrupt_findings(gpu: PciDevice) -> list[Finding]:
    config = gpu.config
    if config is None or not config.capabilities_read or config.msix:
        return []
    if config.msi:
        return [
            finding(
                MSI_ONLY,
                gpu.address,
                f"{gpu.address} has MSI and no MSI-X",
                "stay with QEMU: cloud-hypervisor takes MSI-X alone",
            )
        ]
    return [
        finding(
            NO_MSI,
            gpu.address,
            f"{gpu.address} has neither MSI nor MSI-X: its interrupts are shared lines, which are "
            "slow, and which VFIO takes only where nobody else has them",
            "see whether its line is shared: "
            f"grep -w $(cat /sys/bus/pci/devices/{gpu.address}/irq) /proc/interrupts",
        )
    ]
