"""Whether the device is ready to go: reset, power, interrupts, BARs, memory, who holds it."""

from vfio_kit.knowledge.findings import NO_RESET, finding
from vfio_kit.model import Finding, Host, PciDevice


def device_findings(host: Host, gpu: PciDevice, functions: tuple[PciDevice, ...]) -> list[Finding]:
    """The findings about the functions that go."""
    found: list[Finding] = []
    if functions[0].reset_methods == ():
        found.append(
            finding(
                NO_RESET,
                gpu.address,
                f"{functions[0].address} offers no reset method; it may survive one boot only",
                "a host reboot resets it",
            )
        )
    return found
