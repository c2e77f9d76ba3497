"""libvirt's domains and networks: what there is, what is made of them, and what they have."""

import time
from types import TracebackType
from typing import Any, Self

from vfio_kit.apply.libvirt_connection import LIMIT, URI, Connection, libvirt
from vfio_kit.apply.libvirt_xml import gives_addresses, host_functions, io_thread_cpus
from vfio_kit.errors import HypervisorError
from vfio_kit.model.domain import DomainState

MARK = "https://vfio-kit.dev/xmlns/domain/1"
"""The namespace of the element in a domain's metadata that says who made it."""
_PER_GIB = 4.0
"""Seconds more for the start of a guest, for each GiB of its memory: it is zeroed and pinned."""

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


class Hypervisor:
    """A connection to libvirt; every failure of libvirt becomes a HypervisorError."""

    def __init__(self, uri: str = URI, patience: float = 0) -> None:
        """patience: seconds for a libvirtd that cannot be reached, as while it is restarted."""
        self._link = Connection(uri, patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._link.close()

    def domain(self, name: str) -> DomainState | None:
        """The domain of that name; None where there is none."""

        def look() -> DomainState | None:
            found = self._found(name)
            return None if found is None else self._state(found)

        return self._link.ask(f"look for {name}", look)

    def domains(self) -> list[DomainState]:
        def look() -> list[DomainState]:
            return [self._state(domain) for domain in self._link.raw.listAllDomains()]

        return sorted(self._link.ask("list domains", look), key=lambda domain: domain.name)

    def marked(self) -> list[DomainState]:
        """The domains that bear vfio-kit's mark in their metadata, by name."""

        def look() -> list[DomainState]:
            return [self._state(d) for d in self._link.raw.listAllDomains() if _is_marked(d)]

        return sorted(self._link.ask("list domains", look), key=lambda domain: domain.name)

    def passed_through(self) -> dict[str, str]:
        """Host functions that running domains have: address -> name of the domain."""

        def look() -> list[tuple[str, str]]:
            running = self._link.raw.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
            return [(domain.name(), domain.XMLDesc()) for domain in running]

        return {
            str(address): name
            for name, document in self._link.ask("list domains", look)
            for address in host_functions(document)
        }

    def require_network(self, name: str) -> None:
        """Raises HypervisorError where the network is unknown, not active, or without DHCP."""

        def look() -> tuple[bool, str] | None:
            try:
                network = self._link.raw.networkLookupByName(name)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
                    raise
                return None
            return bool(network.isActive()), network.XMLDesc()

        found = self._link.ask(f"read the network {name}", look)
        if found is None:
            raise HypervisorError(
                f"libvirt has no network {name!r}", "virsh net-list --all shows those it has"
            )
        active, document = found
        if not active:
            raise HypervisorError(
                f"the libvirt network {name!r} is not active",
                f"start it: virsh net-start {name} && virsh net-autostart {name}",
            )
        if not gives_addresses(document):
            raise HypervisorError(
                f"the libvirt network {name!r} gives out no addresses (no <dhcp>), so the guest "
                "could not be found",
                "use a network of libvirt's own with DHCP, such as default",
            )

    def define(self, xml: str) -> None:
        self._link.change(
            "define the domain",
            lambda: self._link.raw.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE),
        )

    def start(self, name: str, memory_mib: int = 0, limit: float = LIMIT) -> None:
        """Raises Hung where it does not end within `limit` seconds, and some for its memory."""
        found = self._require(name)
        hint = f"QEMU's own words: /var/log/libvirt/qemu/{name}.log"
        self._link.change(f"start {name}", found.create, limit + _PER_GIB * memory_mib / 1024, hint)
        self._link.change(
            f"pin QEMU's own threads of {name}", lambda: _pin_emulator(found), hint=hint
        )

    def destroy(self, name: str) -> None:
        """Stops the domain at once, if it is there and runs."""
        found = self._lookup(name)
        if found is None:
            return

        end = time.monotonic() + LIMIT

        def stop() -> None:
            while found.isActive():
                try:
                    found.destroy()
                except libvirt.libvirtError as error:
                    code = error.get_error_code()
                    if code == libvirt.VIR_ERR_OPERATION_INVALID:
                        return  # it stopped by itself meanwhile
                    # libvirt waits for half a minute for a start that is not over, and no longer.
                    if code != libvirt.VIR_ERR_OPERATION_TIMEOUT or time.monotonic() > end:
                        raise

        self._link.change(f"stop {name}", stop)

    def shutdown(self, name: str) -> None:
        """Asks the guest to switch itself off, if it is there and runs; does not wait for it."""
        found = self._lookup(name)
        if found is None:
            return

        def ask() -> None:
            if found.isActive():
                try:
                    found.shutdown()
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
                        raise  # OPERATION_INVALID: it stopped by itself meanwhile

        self._link.change(f"shut {name} down", ask)

    def undefine(self, name: str) -> None:
        """Undefines the domain with its UEFI variables and its snapshots, if it is there."""
        found = self._lookup(name)
        if found is not None:
            self._link.change(
                f"undefine {name}",
                lambda: found.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                    # What an operator may have made of it by hand would keep it from going.
                    | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                ),
            )

    def lease(self, network: str, mac: str) -> str | None:
        """The IPv4 address that the network's DHCP server gave to `mac`; None where none yet."""
        leases = self._link.ask(
            f"read the leases of {network}",
            lambda: self._link.raw.networkLookupByName(network).DHCPLeases(mac),
        )
        leases = [lease for lease in leases if lease["type"] == libvirt.VIR_IP_ADDR_TYPE_IPV4]
        newest = max(leases, key=lambda lease: lease["expirytime"], default=None)
        return None if newest is None else str(newest["ipaddr"])

    def _lookup(self, name: str) -> Any:
        return self._link.ask(f"look for {name}", lambda: self._found(name))

    def _found(self, name: str) -> Any:
        try:
            return self._link.raw.lookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            return None

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


def _is_marked(domain: Any) -> bool:
    try:
        domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, MARK)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (
            libvirt.VIR_ERR_NO_DOMAIN_METADATA,
            libvirt.VIR_ERR_NO_DOMAIN,  # gone since it was listed
        ):
            raise
        return False
    return True


def _pin_emulator(domain: Any) -> None:
    """Puts QEMU's own threads on the CPUs that its I/O thread has.

    Not by <emulatorpin>, which libvirt applies before the start: those that fill the guest's memory
    with zeros would then have these few CPUs, however many they are.
    """
    cpus = io_thread_cpus(domain.XMLDesc())
    if cpus:
        wanted = tuple(number in cpus for number in range(max(cpus) + 1))
        domain.pinEmulator(wanted, libvirt.VIR_DOMAIN_AFFECT_LIVE)
