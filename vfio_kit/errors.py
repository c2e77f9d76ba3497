"""The errors vfio-kit reports, each with its public exit code (docs/exit-codes.md)."""

from collections.abc import Iterable
from typing import ClassVar


class VfioKitError(Exception):
    """Something that an operator has to know.

    message  says what failed and on what; one sentence, no final full stop needed.
    hint     says what to do next; may hold several lines, may be empty.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(VfioKitError):
    """The command line or the spec asks for something that cannot be meant."""

    exit_code = 2


class Refused(VfioKitError):
    """Checked, and the answer is no."""

    exit_code = 3


class HostError(VfioKitError):
    """The host cannot be examined or changed: permissions, memory, disk space."""

    exit_code = 4


class HypervisorError(VfioKitError):
    """libvirt, QEMU or an image stands in the way."""

    exit_code = 5


class GuestError(VfioKitError):
    """The guest is unreachable, or did not answer in time."""

    exit_code = 6


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A line for a hint: the known words that are most like this one; empty where none is."""
    from difflib import get_close_matches  # noqa: PLC0415  (needed only where something went wrong)

    close = get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?\n" if close else ""
