"""Routes, and the PCI functions below network interfaces."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vfio_kit.host.public import public_interface
from vfio_kit.host.tree import LONG, Tree
from vfio_kit.host.uses.stack import DEEPEST, Stack, function_above, merged, on_top
from vfio_kit.model import Use, UseKind

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NET = "sys/class/net"
_UP, _GATEWAY, _REJECT = 0x1, 0x2, 0x200
"""RTF_* of include/uapi/linux/route.h."""
_NO_HARDWARE = "65534"
"""ARPHRD_NONE: WireGuard, tun."""
_LOOPBACK = "lo"
_HEX = re.compile(r"[0-9a-fA-F]{1,32}")
_LONGEST = 4 * LONG
"""Bytes: more than a hundred thousand routes. A router of the whole Internet has more."""


@dataclass(frozen=True, slots=True)
class _Route:
    interface: str
    width: int
    """Bits of an address: 32 or 128."""
    network: int
    length: int
    """Of the prefix, in bits; 0: the default route."""
    gateway: bool

    def covers(self, address: IpAddress) -> bool:
        shift = self.width - self.length
        return address.max_prefixlen == self.width and int(address) >> shift == (
            self.network >> shift
        )


class Network:
    """Interfaces of a machine, and where its packets go."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._routes: list[_Route] | None = None
        self._open: set[str] = set()

    def default_interfaces(self) -> list[str]:
        return _distinct(route.interface for route in self._all_routes() if route.length == 0)

    def interfaces_towards(self, address: IpAddress) -> list[str]:
        """Where packets to another machine leave: several, where there are several ways."""
        return _longest(route for route in self._all_routes() if route.covers(address))

    def interfaces_with(self, address: IpAddress) -> list[str]:
        """Which interface has this address of ours.

        Of IPv4 procfs lists the addresses without their interfaces, so the connected network that
        the address is in tells. An address in none (a /32 on the loopback) is reached by the
        default route.
        """
        if address.version == 6:
            named = [name for number, name in self._addresses6() if number == int(address)]
            if named:
                return _distinct(named)
        connected = _longest(
            route
            for route in self._all_routes()
            if route.length and not route.gateway and route.covers(address)
        )
        return connected or self.default_interfaces()

    def below(self, interface: str) -> Stack:
        """The PCI functions that an interface rests on; none for one that is virtual throughout."""
        if interface in self._open or len(self._open) >= DEEPEST:
            return {}
        self._open.add(interface)
        try:
            return self._look_below(interface)
        finally:
            self._open.discard(interface)

    def carrying(self, interface: str) -> Stack:
        """What is below an interface; of a tunnel, what its packets leave by in the end."""
        stack = self.below(interface)
        if stack or self._tree.text(f"{_NET}/{interface}/type") != _NO_HARDWARE:
            return stack
        carriers = _distinct(r.interface for r in self._all_routes() if r.gateway)
        below = merged(self.below(name) for name in carriers if name != interface)
        return on_top(below, public_interface(interface))

    def remote(self, text: str, what: str) -> Stack:
        """The functions by which a server of this address is reached: below a network mount."""
        address = parse_address(text)
        if address is None or address.is_loopback:
            return {}
        below = merged(map(self.carrying, self.interfaces_towards(address)))
        return on_top(below, what)

    def _look_below(self, interface: str) -> Stack:
        folder = f"{_NET}/{interface}"
        address = function_above(self._tree.target(folder) or "")
        if address is not None:
            return {address: (public_interface(interface),)}
        entries = self._tree.names(folder)
        lower = [name.removeprefix("lower_") for name in entries if name.startswith("lower_")]
        if not lower and "upper_ovs-system" in entries:
            # A port of Open vSwitch's own: all bridges of the switch hang on one datapath.
            lower = ["ovs-system"]
        stacks = [self.below(name) for name in lower]
        both = merged(stacks)
        if "bonding" not in entries:
            return on_top(both, public_interface(interface))
        return {
            at: (*above, f"{public_interface(interface)} (bond, {_how_many(at, stacks)})")
            for at, above in both.items()
        }

    def _all_routes(self) -> list[_Route]:
        if self._routes is None:
            routes = (*_routes4(self._tree), *_routes6(self._tree))
            self._routes = [route for route in routes if route.interface != _LOOPBACK]
        return self._routes

    def _addresses6(self) -> Iterator[tuple[int, str]]:
        """if_inet6: address, index, prefix length, scope, flags, interface."""
        for row in _rows(self._tree, "proc/net/if_inet6"):
            if len(row) == 6 and (number := _hex(row[0])) is not None:
                yield number, row[5]


def _how_many(address: object, stacks: list[Stack]) -> str:
    """Of how many members this function has some: "1 of 2"."""
    return f"{sum(address in stack for stack in stacks)} of {len(stacks)}"


def default_route_uses(network: Network) -> Iterator[Use]:
    """The interfaces of the default routes, IPv4 and IPv6."""
    for interface in network.default_interfaces():
        stack = network.carrying(interface)
        yield from interface_uses(stack, UseKind.DEFAULT_ROUTE, interface)


def interface_uses(stack: Stack, kind: UseKind, interface: str) -> Iterator[Use]:
    what = public_interface(interface)
    for address, names in stack.items():
        yield Use(address, kind, what, tuple(name for name in names if name != what))


def parse_address(text: str) -> IpAddress | None:
    """An IP address; an IPv4 address in IPv6's clothes is IPv4."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _routes4(tree: Tree) -> Iterator[_Route]:
    """Interface, destination, gateway, flags, counts, metric, mask: hex, in the CPU's byte order.

    All machines with a GPU to pass through are little-endian today.
    """
    for row in _rows(tree, "proc/net/route")[1:]:
        if len(row) < 8:
            continue
        numbers = [_hex(row[column]) for column in (1, 3, 7)]
        network, flags, mask = numbers
        if network is None or flags is None or mask is None or max(network, mask) >> 32:
            continue
        if flags & _UP and not flags & _REJECT:
            network = int.from_bytes(network.to_bytes(4, "little"))
            yield _Route(row[0], 32, network, mask.bit_count(), bool(flags & _GATEWAY))


def _routes6(tree: Tree) -> Iterator[_Route]:
    """Destination, length, source, length, next hop, metric, counts, flags, interface: hex."""
    for row in _rows(tree, "proc/net/ipv6_route"):
        if len(row) != 10:
            continue
        network, length, flags = (_hex(row[column]) for column in (0, 1, 8))
        if network is None or length is None or flags is None or length > 128:
            continue
        if flags & _UP and not flags & _REJECT:
            yield _Route(row[9], 128, network, length, bool(flags & _GATEWAY))


def _rows(tree: Tree, name: str) -> list[list[str]]:
    data = tree.data(name, _LONGEST, private=True) or b""
    text = data.decode("ascii", errors="replace").replace("\0", "?")
    return [line.split() for line in text.splitlines()]


def _hex(text: str) -> int | None:
    return int(text, 16) if _HEX.fullmatch(text) else None


def _longest(routes: Iterable[_Route]) -> list[str]:
    """The interfaces of the routes with the longest prefix."""
    found = list(routes)
    longest = max((route.length for route in found), default=0)
    return _distinct(route.interface for route in found if route.length == longest)


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
