"""When libvirt does not come back: who has the devices, and what can be done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vfio_kit.errors import HypervisorError, VfioKitError

if TYPE_CHECKING:
    from vfio_kit.apply.journal import VmFolder

_LOOK = 20.0
"""Seconds for a look at the host: a device in the middle of an unbind may hang whoever reads it."""


@contextmanager
def naming_holders(folder: "VmFolder") -> Iterator[None]:
    """Adds to a call that hangs which processes have its devices, and what to do about it."""
    from vfio_kit.apply.bounded import Hung

    try:
        yield
    except Hung as error:
        hints = [*_holders(folder), *error.hint.splitlines()]
        hints.append(
            f"when it lets go, or after a reboot of the host: vfio-kit down {folder.name}; it may "
            "be repeated"
        )
        raise HypervisorError(error.message, "\n".join(hints)) from None


def _holders(folder: "VmFolder") -> list[str]:
    from vfio_kit.apply.bounded import bounded
    from vfio_kit.cli.common import read_named_host
    from vfio_kit.model.vm import StepKind

    try:
        moved = {
            address
            for entry in folder.outstanding()
            if entry.step is StepKind.START
            for address in entry.data.get("drivers", {})
        }
        host = bounded("a look at the host", _LOOK, lambda: read_named_host(Path("/")))
    except VfioKitError as error:
        return [f"who has its devices could not be seen: {error.message}"]
    held = [holder for holder in host.holders if str(holder.device) in moved]
    return [
        f"{holder.device} is open in process {holder.pid} ({holder.command}): {holder.node}"
        for holder in held
    ] or [
        "no process is seen with its devices open, and of a driver that is letting go none can be; "
        "look: ls -l /proc/[0-9]*/fd 2>/dev/null | grep -e /dev/snd -e /dev/dri -e /dev/nvidia"
    ]
