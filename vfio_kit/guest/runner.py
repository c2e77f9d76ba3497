"""What runs commands on a machine under test: the same door for SSH and for this machine."""

import math
from typing import Protocol

from vfio_kit.errors import GuestError
from vfio_kit.model.health import CommandResult

MOST_OUTPUT = 16 << 20
"""Bytes; what verification asks for is far smaller, and a guest is not trusted with our memory."""

_GRACE = 5
"""Seconds between our own end of patience and the one that the machine itself enforces."""

_WIRE = (
    'exec /bin/sh -c \'LC_ALL=C; export LC_ALL; c=$(printf %b "$1"); '
    'if command -v timeout >/dev/null; then timeout -k 5 "$2" /bin/sh -c "$c"; '
    """else /bin/sh -c "$c"; fi; exit $?' sh '{text}' {limit}"""
)
"""No exec of the command: a shell tells as its status that a signal ended it, sshd tells nothing
that paramiko would pass on."""

_PLAIN = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ,./:;=_@+-#%^~()[]{}<>|&*?$"
)
"""What no shell changes between single quotes: not the quote, the backslash, `!` or a newline."""


class CommandTimeout(GuestError):
    """A command did not end in time; whoever ran it can run the next one."""


class Runner(Protocol):
    """Runs commands, one after the other, with the rights of whoever it logged in as."""

    def run(self, command: str, timeout: float = 60, *, stdin: str = "") -> CommandResult:
        """Runs `command` with /bin/sh and LC_ALL=C, feeds it `stdin`, and waits for its end.

        timeout in seconds. Raises CommandTimeout when there is no end by then, and GuestError
        where no command can be run at all or the output is larger than MOST_OUTPUT.
        """
        ...


def wire(command: str, timeout: float) -> str:
    """The line to send to a login shell of any kind, so that /bin/sh runs `command`.

    A login shell may be fish (a backslash counts between single quotes), csh (no newline there,
    and `!` is history) or a POSIX shell: so whatever one of them could change is sent as an octal
    escape of printf's %b. Where the machine has timeout(1), a command that we no longer wait for
    ends there as well, a little later: closing a channel alone ends nothing.
    """
    text = "".join(
        chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in command.encode("utf-8")
    )
    return _WIRE.format(text=text, limit=math.ceil(timeout) + _GRACE)


def no_end(label: str, timeout: float, command: str) -> CommandTimeout:
    """The error for a command that did not end; names its first line."""
    first = next(iter(command.strip().splitlines()), "")
    return CommandTimeout(f"{label}: no end within {timeout:.0f} s: {first[:80]}")


def decode(data: bytes) -> str:
    """Output as text; what is none is no obstacle."""
    return data.decode("utf-8", errors="replace")
