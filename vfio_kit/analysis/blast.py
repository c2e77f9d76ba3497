"""What the host would lose if a device went: the blast radius."""

from vfio_kit.knowledge.findings import BOOT_DISPLAY, finding
from vfio_kit.model import Finding, Host, PciDevice


def blast_findings(
    host: Host, functions: tuple[PciDevice, ...], foreign: tuple[PciDevice, ...]
) -> list[Finding]:
    """What goes with the functions that go, and what would go with the rest of their groups."""
    display = next((function for function in functions if function.boot_vga), None)
    if display is None:
        return []
    return [
        finding(
            BOOT_DISPLAY,
            display.address,
            f"{display.address} is the display that firmware booted with; the console goes with it",
            "choose another primary display in the firmware set-up; or, where you have another "
            f"console, --accept-loss {display.address}",
        )
    ]
