"""What libvirt's XML says: of a domain its devices and pins, of a network whether it has DHCP."""

from defusedxml.ElementTree import ParseError, fromstring

from vfio_kit.model import PciAddress

_ADDRESS = ("domain", "bus", "slot", "function")


def host_functions(domain: str) -> tuple[PciAddress, ...]:
    """The PCI functions of the host that a domain has."""
    sources = fromstring(domain).iterfind("./devices/hostdev[@type='pci']/source/address")
    return tuple(
        PciAddress(*(int(source.get(key, "0"), 16) for key in _ADDRESS)) for source in sources
    )


def io_thread_cpus(domain: str) -> frozenset[int]:
    """The host CPUs of a domain's first I/O thread; none where it is not pinned."""
    pin = fromstring(domain).find("./cputune/iothreadpin")
    return frozenset() if pin is None else cpus_of(pin.get("cpuset", ""))


def boot_files(domain: str) -> tuple[str, ...]:
    """The kernel and the initrd that a domain is started with; none where firmware boots it.

    Raises ValueError for what is no XML.
    """
    try:
        found = [fromstring(domain).findtext(f"./os/{name}") for name in ("kernel", "initrd")]
    except ParseError as error:
        raise ValueError(f"no XML: {error}") from None
    return tuple(path for path in found if path)


def gives_addresses(network: str) -> bool:
    """Whether a network has a DHCP server."""
    return fromstring(network).find("./ip/dhcp") is not None


def cpus_of(cpuset: str) -> frozenset[int]:
    """The numbers in a set of CPUs as libvirt writes it: `0-1,40-41`."""
    ranges = (part.partition("-") for part in cpuset.split(","))
    return frozenset(
        number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)
    )
