"""Why an IOMMU group holds what it holds: the bridge, port or device that fails to isolate."""

from vfio_kit.model import Finding, Host, PciDevice


def why_together(
    host: Host, functions: tuple[PciDevice, ...], foreign: tuple[PciDevice, ...]
) -> list[Finding]:
    """What holds the functions and the foreign endpoints in one group."""
    return []
