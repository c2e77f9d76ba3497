"""The SSH session that this process is in."""

from collections.abc import Iterator

from vfio_kit.host.tree import LONG, Tree
from vfio_kit.host.uses.network import Network, interface_uses, parse_address
from vfio_kit.model import Use, UseKind

_ANCESTORS = 32
"""More than any shell in a shell in a multiplexer."""


def session_uses(tree: Tree, network: Network) -> Iterator[Use]:
    """The interface that the session came in by; none where there is no session."""
    address = parse_address(server := _server(tree))
    if address is None or address.is_loopback:
        return
    # A link-local address names its interface behind a percent sign.
    zone = server.partition("%")[2]
    for interface in [zone] if zone else network.interfaces_with(address):
        yield from interface_uses(network.carrying(interface), UseKind.SSH_SESSION, interface)


def _server(tree: Tree) -> str:
    """The address that the session was opened to, from sshd(8)'s SSH_CONNECTION; else empty.

    sudo takes the variable from the process, so its ancestors are asked as well. Its words: the
    client's address and port, the server's address and port.
    """
    for environment in _environments(tree):
        for entry in environment.split(b"\0"):
            name, _, value = entry.partition(b"=")
            words = value.decode("ascii", errors="replace").split()
            if name == b"SSH_CONNECTION" and len(words) == 4 and "/" not in words[2]:
                return words[2]
    return ""


def _environments(tree: Tree) -> Iterator[bytes]:
    """Of this process and its ancestors, as far as they may be read."""
    process = "self"
    for _ in range(_ANCESTORS):
        yield tree.data(f"proc/{process}/environ", LONG, private=True) or b""
        parent = _parent(tree, process)
        if parent is None:
            return
        process = parent


def _parent(tree: Tree, process: str) -> str | None:
    """The fourth field of stat; the second, the name, may hold anything (proc_pid_stat(5))."""
    data = tree.data(f"proc/{process}/stat", private=True) or b""
    fields = data.rpartition(b")")[2].split()
    if len(fields) < 2 or not fields[1].isdigit() or fields[1] in (b"0", b"1"):
        return None
    return fields[1].decode()
