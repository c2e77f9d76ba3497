"""The errors vfio-kit reports, each with its public exit code (docs/exit-codes.md)."""

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
    """Checked, and the answer is no: nothing was changed."""

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
