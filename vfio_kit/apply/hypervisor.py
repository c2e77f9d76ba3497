"""libvirt: the only module that speaks to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring

from vfio_kit.errors import HypervisorError
from vfio_kit.model import PciAddress

try:
    import libvirt
except ImportError:  # an extra: everything but up, down and list works without it
    libvirt = None

URI = "qemu:///system"

_STATES = {
    0: "no state",
    1: "running",
    2: "blocked",
    3: "paused",
    4: "shutting down",
    5: "shut off",
    6: "crashed",
    7: "suspended",
}


@dataclass(frozen=True, slots=True)
class DomainState:
    """A domain as libvirt shows it."""

    name: str
    uuid: str
    state: str


class Hypervisor:
    """A connection to libvirt; every failure of libvirt becomes a HypervisorError."""

    def __init__(self, uri: str = URI) -> None:
        if libvirt is None:
            raise HypervisorError(
                "the Python module libvirt is missing",
                "on Debian and Ubuntu: apt-get install python3-libvirt, and a venv made with "
                "--system-site-packages; elsewhere: pip install 'vfio-kit[libvirt]', which needs "
                "libvirt's headers, pkg-config and a compiler",
            )
        # libvirt prints every error to stderr by itself unless a handler is there.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        try:
            self._connection = libvirt.open(uri)
        except libvirt.libvirtError as error:
            raise HypervisorError(
                f"cannot connect to libvirt at {uri}: {_said(error)}",
                "is libvirtd there and running? apt-get install libvirt-daemon-system; "
                "systemctl start libvirtd",
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def domain(self, name: str) -> DomainState | None:
        """The domain of that name; None where there is none."""
        found = self._lookup(name)
        return None if found is None else self._state(found)

    def domains(self) -> list[DomainState]:
        with _reporting("list domains"):
            return sorted(
                (self._state(d) for d in self._connection.listAllDomains()), key=lambda d: d.name
            )

    def passed_through(self) -> dict[str, str]:
        """Host functions that running domains have: address -> name of the domain."""
        with _reporting("list domains"):
            running = self._connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
            documents = [(domain.name(), domain.XMLDesc()) for domain in running]
        return {
            str(_source_address(source)): name
            for name, document in documents
            for source in fromstring(document).iterfind(
                "./devices/hostdev[@type='pci']/source/address"
            )
        }

    def require_network(self, name: str) -> None:
        """Raises HypervisorError where the network is unknown, not active, or without DHCP."""
        try:
            network = self._connection.networkLookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
                raise HypervisorError(f"libvirt: {_said(error)}") from None
            raise HypervisorError(
                f"libvirt has no network {name!r}", "virsh net-list --all shows those it has"
            ) from None
        if not network.isActive():
            raise HypervisorError(
                f"the libvirt network {name!r} is not active",
                f"start it: virsh net-start {name} && virsh net-autostart {name}",
            )
        with _reporting(f"read the network {name}"):
            document = network.XMLDesc()
        if fromstring(document).find("./ip/dhcp") is None:
            raise HypervisorError(
                f"the libvirt network {name!r} gives out no addresses (no <dhcp>), so the guest "
                "could not be found",
                "use a network of libvirt's own with DHCP, such as default",
            )

    def define(self, xml: str) -> None:
        with _reporting("define the domain"):
            self._connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

    def start(self, name: str) -> None:
        with _reporting(f"start {name}", f"QEMU's own words: /var/log/libvirt/qemu/{name}.log"):
            self._require(name).create()

    def destroy(self, name: str) -> None:
        """Stops the domain at once, if it is there and runs."""
        found = self._lookup(name)
        if found is None:
            return
        with _reporting(f"stop {name}"):
            if found.isActive():
                try:
                    found.destroy()
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
                        raise  # OPERATION_INVALID: it stopped by itself meanwhile

    def undefine(self, name: str) -> None:
        """Undefines the domain with its UEFI variables, if it is there."""
        found = self._lookup(name)
        if found is not None:
            with _reporting(f"undefine {name}"):
                found.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)

    def lease(self, network: str, mac: str) -> str | None:
        """The IPv4 address that the network's DHCP server gave to `mac`; None where none yet."""
        with _reporting(f"read the leases of {network}"):
            leases = self._connection.networkLookupByName(network).DHCPLeases(mac)
        leases = [lease for lease in leases if lease["type"] == libvirt.VIR_IP_ADDR_TYPE_IPV4]
        newest = max(leases, key=lambda lease: lease["expirytime"], default=None)
        return None if newest is None else str(newest["ipaddr"])

    def _lookup(self, name: str) -> Any:
        try:
            return self._connection.lookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise HypervisorError(f"libvirt: {_said(error)}") from None

    def _require(self, name: str) -> Any:
        found = self._lookup(name)
        if found is None:
            raise HypervisorError(f"libvirt has no domain {name!r}")
        return found

    @staticmethod
    def _state(domain: Any) -> DomainState:
        return DomainState(
            domain.name(), domain.UUIDString(), _STATES.get(domain.state()[0], "unknown")
        )


def _source_address(source: Element) -> PciAddress:
    numbers = (int(source.get(key, "0"), 16) for key in ("domain", "bus", "slot", "function"))
    return PciAddress(*numbers)


@contextmanager
def _reporting(what: str, hint: str = "see: journalctl -u libvirtd -n 50") -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        raise HypervisorError(f"libvirt could not {what}: {_said(error)}", hint) from None


def _said(error: Any) -> str:
    return str(error.get_error_message() or error)
