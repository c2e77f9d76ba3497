"""Tells a fault of the emulator from a failure of what was tested."""

from dataclasses import dataclass

_QEMU_SIGNS = ("assertion failed", "Bail out", "qemu: fatal", "Aborted", "Segmentation fault")
_KERNEL_SIGNS = (
    "Kernel panic",
    "BUG: kernel",
    "BUG: unable to handle",
    "Oops:",
    "self-detected stall",
    "detected stalls on CPUs",
    "soft lockup",
    "hard LOCKUP",
)
_BOOT_SIGN = "] Linux version "
_MOST_SIGNS = 3


class LabFault(Exception):
    """The lab itself failed: its emulator, or the emulated host's kernel."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is to judge by: both logs, how often the host should have booted, and QEMU:

    whether it runs, and whether its main loop turns.  It can lock itself up: its proxy device keeps
    a lock of its own while it waits for the one that another CPU holds, which waits for the first.
    """

    qemu_output: str
    serial: str
    expected_boots: int
    running: bool
    answers: bool = True
    greets: bool = True
    """Whether its sshd, once it listened, still says who it is: an emulated CPU may go in circles
    with no word of the kernel's."""


def signs_of_fault(evidence: Evidence) -> tuple[str, ...]:
    """Return the lines (at most three) that lay the blame on the emulator; none: it is sound."""
    signs = [*_matching(evidence.qemu_output, _QEMU_SIGNS)]
    signs += signs_of_kernel(evidence.serial)
    boots = evidence.serial.count(_BOOT_SIGN)
    if boots > evidence.expected_boots:
        signs.append(f"the host booted {boots} times, expected were {evidence.expected_boots}")
    if not evidence.running and not signs:
        signs.append("QEMU is not running")
    if evidence.running and not evidence.answers:
        signs.append("QEMU hangs: it runs, and does not answer")
    elif evidence.running and not evidence.greets and not signs:
        signs.append("the host hangs: its sshd listened, and greets nobody any more")
    return tuple(signs[:_MOST_SIGNS])


def signs_of_kernel(serial: str) -> list[str]:
    """Return the lines with which the host's kernel says that it is broken."""
    return _matching(serial, _KERNEL_SIGNS)


def _matching(text: str, words: tuple[str, ...]) -> list[str]:
    lines = text.splitlines()
    return [line.strip()[:200] for line in lines if any(word in line for word in words)]
