"""Whether the host is ready for any passthrough: interrupt remapping, vfio-pci, KVM, limits."""

from vfio_kit.model import Finding, Host


def platform_findings(host: Host) -> tuple[Finding, ...]:
    """The findings about the host."""
    return ()
