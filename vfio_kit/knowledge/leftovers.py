"""TABLE: the kinds of leftovers of a VM: what each means, and what mends it.

Only what vfio-kit wrote down is ever mended, and nothing that runs.
"""

from dataclasses import dataclass
from enum import StrEnum


class Mend(StrEnum):
    """What `repair` does about a leftover."""

    TELL = "tell"
    """Nothing: the operator decides."""
    DOWN = "down"
    """What is still there of the VM is undone."""
    DEFINE = "define"
    """libvirt is told the domain again, from the copy in the VM's folder."""
    STOP = "stop"
    """Devices and hugepages are given back; the VM stays, off."""
    START = "start"
    """As STOP, and it is started again."""
    REMOVE = "remove"
    """The files are removed."""
    DISABLE = "disable"
    """The unit is taken away."""


@dataclass(frozen=True, slots=True)
class LeftoverKind:
    """A row of the table. remedy: the operator's next command, {vm} is the VM's name."""

    word: str
    meaning: str
    mend: Mend
    remedy: str


_DOWN = "vfio-kit down {vm}"
_REPAIR = "vfio-kit repair {vm}"

HALF_UP = LeftoverKind(
    "half-up", "its `up` broke off before the VM ran; nobody can log in to it", Mend.DOWN, _REPAIR
)
HALF_DOWN = LeftoverKind("half-down", "its taking down broke off", Mend.DOWN, _REPAIR)
HALF_BAKED = LeftoverKind(
    "half-baked", "the `bake` that made the VM has ended, and left it", Mend.DOWN, _REPAIR
)
FIRST_BOOT = LeftoverKind(
    "first-boot",
    "the VM runs, and the `up` that waited for its first boot has ended",
    Mend.TELL,
    "wait for it again: vfio-kit up {vm} with the same options; or take it away: " + _DOWN,
)
FIRST_BOOT_OFF = LeftoverKind(
    "first-boot-off",
    "the VM is off, and its first boot did not end, though somebody could log in to it",
    Mend.TELL,
    "vfio-kit start {vm} switches it on as it is; or take it away: " + _DOWN,
)
REBOOTED = LeftoverKind(
    "rebooted",
    "the host was rebooted: its hugepages are gone, and the VM is off",
    Mend.STOP,
    "vfio-kit start {vm}",
)
NOT_STARTED = LeftoverKind(
    "not-started",
    "the host was rebooted and has not started the VM, as it should",
    Mend.START,
    _REPAIR + "; why it was not: journalctl -b -u vfio-kit@{vm}.service",
)
ENDED = LeftoverKind(
    "ended",
    "the VM is off, and not by vfio-kit: its hugepages and devices are still kept for it",
    Mend.STOP,
    "vfio-kit start {vm}, or vfio-kit stop {vm}",
)
HALF_STOPPED = LeftoverKind(
    "half-stopped", "its stopping broke off, or its starting", Mend.STOP, _REPAIR
)
UNDEFINED = LeftoverKind("undefined", "libvirt does not know the VM any more", Mend.DEFINE, _REPAIR)
LOST = LeftoverKind(
    "lost",
    "libvirt does not know the VM any more, and there is no copy of what it was told",
    Mend.TELL,
    _DOWN,
)
FILES_GONE = LeftoverKind(
    "files-gone",
    "files that the VM needs are gone",
    Mend.TELL,
    "put them back, or mount what they were on; or take the VM away: " + _DOWN,
)
FILES_GONE_RUNNING = LeftoverKind(
    "files-gone-running",
    "files of a VM that runs were removed: what it writes is lost when it ends",
    Mend.TELL,
    "save what is in the guest, then: " + _DOWN,
)
RENUMBERED = LeftoverKind(
    "renumbered",
    "its devices are not as they were, so it is not started with them",
    Mend.TELL,
    _DOWN + ", and up again with what vfio-kit scan shows",
)
OUTSIDE = LeftoverKind(
    "started-outside",
    "the VM runs, and was not started by vfio-kit: what it took is not written down",
    Mend.TELL,
    "vfio-kit stop {vm}; vfio-kit start {vm}",
)
FOREIGN = LeftoverKind(
    "name-taken",
    "libvirt's domain of this name is not the one that vfio-kit made",
    Mend.TELL,
    "virsh dumpxml {vm} shows what it is; vfio-kit down {vm} leaves it alone",
)
DAMAGED = LeftoverKind("damaged", "what was written down of the VM cannot be read", Mend.TELL, "")
UNKNOWN_DOMAIN = LeftoverKind(
    "unknown-domain",
    "a domain that vfio-kit made, and has no record of here",
    Mend.TELL,
    "if no other --state-dir has it: virsh destroy {vm}; virsh undefine --nvram {vm}",
)
UNIT = LeftoverKind(
    "unit", "the host would start a VM that is not there any more", Mend.DISABLE, _REPAIR
)
TEMPORARY = LeftoverKind(
    "temporary", "what a crash left of files that were being written", Mend.REMOVE, _REPAIR
)

KINDS: tuple[LeftoverKind, ...] = tuple(
    value for value in tuple(globals().values()) if isinstance(value, LeftoverKind)
)
