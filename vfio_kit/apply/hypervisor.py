"""libvirt: the only module that speaks to it.

Calls that change something may hang, where a driver does not let go of its device or QEMU does not
end: they are bounded, as all calls are. Questions are asked once more where libvirtd was restarted
meanwhile.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from vfio_kit.apply.bounded import Hung, bounded
from vfio_kit.apply.libvirt_xml import gives_addresses, host_functions, io_thread_cpus
from vfio_kit.errors import HypervisorError
from vfio_kit.model.domain import DomainState

try:
    import libvirt
except ImportError:  # an extra: everything but up, down and list works without it
    libvirt = None

_DETAILS = logging.getLogger(__name__)
URI = "qemu:///system"
MARK = "https://vfio-kit.dev/xmlns/domain/1"
"""The namespace of the element in a domain's metadata that says who made it."""
LIMIT = 120.0
"""Seconds for a call that changes something."""
_PER_GIB = 4.0
"""Seconds more for the start of a guest, for each GiB of its memory: it is zeroed and pinned."""
_QUESTION = 60.0
"""Seconds for a call that changes nothing."""
_GOODBYE = 5.0
"""Seconds for the end of a connection, which is over in any case when this process is."""
_RESTART = 20.0
"""Seconds for a libvirtd that is being restarted to be there again."""
_HANGS = (
    "see which process hangs in the kernel, and where: ps -eo pid,stat,wchan:32,args | grep ' D'; "
    "dmesg | tail -50"
)
_DEAF = "libvirtd is there and says nothing: systemctl status libvirtd; systemctl restart libvirtd"
_Answer = TypeVar("_Answer")

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
        if libvirt is None:
            raise HypervisorError(
                "the Python module libvirt is missing",
                "on Debian and Ubuntu: apt-get install python3-libvirt, and a venv made with "
                "--system-site-packages; elsewhere: pip install 'vfio-kit[libvirt]', which needs "
                "libvirt's headers, pkg-config and a compiler",
            )
        # libvirt prints every error to stderr by itself unless a handler is there.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        self._uri = uri
        self._connection = self._open(patience)

    def _open(self, patience: float) -> Any:
        end = time.monotonic() + patience
        while True:
            try:
                return bounded(
                    f"libvirt's answer at {self._uri}",
                    _QUESTION,
                    lambda: libvirt.open(self._uri),
                    _DEAF,
                )
            except libvirt.libvirtError as error:
                if time.monotonic() < end:
                    time.sleep(0.5)
                    continue
                raise HypervisorError(
                    f"cannot connect to libvirt at {self._uri}: {_said(error)}",
                    "is libvirtd there and running? apt-get install libvirt-daemon-system; "
                    "systemctl start libvirtd",
                ) from None

    def _ask(self, what: str, question: Callable[[], _Answer]) -> _Answer:
        """What libvirt answers; once more where it was restarted since the last answer."""
        asked = f"libvirt's attempt to {what}"
        try:
            return bounded(asked, _QUESTION, question, _DEAF)
        except libvirt.libvirtError as error:
            if self._connection.isAlive():
                raise HypervisorError(f"libvirt could not {what}: {_said(error)}", _LOG) from None
        self._connection = self._open(_RESTART)
        with _reporting(what):
            return bounded(asked, _QUESTION, question, _DEAF)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A libvirtd that does not answer would keep the command from its end, and from Ctrl-C.
        with suppress(Hung, libvirt.libvirtError):
            bounded("libvirt's goodbye", _GOODBYE, self._connection.close)

    def domain(self, name: str) -> DomainState | None:
        """The domain of that name; None where there is none."""

        def look() -> DomainState | None:
            found = self._found(name)
            return None if found is None else self._state(found)

        return self._ask(f"look for {name}", look)

    def domains(self) -> list[DomainState]:
        def look() -> list[DomainState]:
            return [self._state(domain) for domain in self._connection.listAllDomains()]

        return sorted(self._ask("list domains", look), key=lambda domain: domain.name)

    def marked(self) -> list[DomainState]:
        """The domains that bear vfio-kit's mark in their metadata, by name."""

        def look() -> list[DomainState]:
            return [self._state(d) for d in self._connection.listAllDomains() if _is_marked(d)]

        return sorted(self._ask("list domains", look), key=lambda domain: domain.name)

    def passed_through(self) -> dict[str, str]:
        """Host functions that running domains have: address -> name of the domain."""

        def look() -> list[tuple[str, str]]:
            running = self._connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
            return [(domain.name(), domain.XMLDesc()) for domain in running]

        return {
            str(address): name
            for name, document in self._ask("list domains", look)
            for address in host_functions(document)
        }

    def require_network(self, name: str) -> None:
        """Raises HypervisorError where the network is unknown, not active, or without DHCP."""

        def look() -> tuple[bool, str] | None:
            try:
                network = self._connection.networkLookupByName(name)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_NETWORK:
                    raise
                return None
            return bool(network.isActive()), network.XMLDesc()

        found = self._ask(f"read the network {name}", look)
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
        self._change(
            "define the domain",
            lambda: self._connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE),
        )

    def start(self, name: str, memory_mib: int = 0, limit: float = LIMIT) -> None:
        """Raises Hung where it does not end within `limit` seconds, and some for its memory."""
        found = self._require(name)
        hint = f"QEMU's own words: /var/log/libvirt/qemu/{name}.log"
        self._change(f"start {name}", found.create, limit + _PER_GIB * memory_mib / 1024, hint)
        self._change(f"pin QEMU's own threads of {name}", lambda: _pin_emulator(found), hint=hint)

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

        self._change(f"stop {name}", stop)

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

        self._change(f"shut {name} down", ask)

    def undefine(self, name: str) -> None:
        """Undefines the domain with its UEFI variables and its snapshots, if it is there."""
        found = self._lookup(name)
        if found is not None:
            self._change(
                f"undefine {name}",
                lambda: found.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                    # What an operator may have made of it by hand would keep it from going.
                    | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                ),
            )

    @staticmethod
    def _change(
        what: str, call: Callable[[], object], limit: float = LIMIT, hint: str = ""
    ) -> None:
        _DETAILS.debug("libvirt: %s", what)
        with _reporting(what, hint or _LOG):
            bounded(f"libvirt's attempt to {what}", limit, call, _HANGS)

    def lease(self, network: str, mac: str) -> str | None:
        """The IPv4 address that the network's DHCP server gave to `mac`; None where none yet."""
        leases = self._ask(
            f"read the leases of {network}",
            lambda: self._connection.networkLookupByName(network).DHCPLeases(mac),
        )
        leases = [lease for lease in leases if lease["type"] == libvirt.VIR_IP_ADDR_TYPE_IPV4]
        newest = max(leases, key=lambda lease: lease["expirytime"], default=None)
        return None if newest is None else str(newest["ipaddr"])

    def _lookup(self, name: str) -> Any:
        return self._ask(f"look for {name}", lambda: self._found(name))

    def _found(self, name: str) -> Any:
        try:
            return self._connection.lookupByName(name)
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


_LOG = "see: journalctl -u libvirtd -n 50"


@contextmanager
def _reporting(what: str, hint: str = _LOG) -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        raise HypervisorError(f"libvirt could not {what}: {_said(error)}", hint) from None


def _said(error: Any) -> str:
    return str(error.get_error_message() or error)
