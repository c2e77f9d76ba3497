"""What the host would lose if a device went: the blast radius.

Looked at are the functions that go and the foreign endpoints of their groups: a whole group that is
handed over, by whatever tool, takes the boot disk or the uplink with it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vfio_kit.knowledge.bmc import BMC_DISPLAYS
from vfio_kit.knowledge.findings import (
    BMC_CONSOLE,
    BOOT_DISPLAY,
    DEFAULT_ROUTE,
    FILESYSTEM,
    FRAMEBUFFER,
    KEYBOARD,
    SSH_SESSION,
    SWAP,
    FindingKind,
    finding,
)
from vfio_kit.model import Finding, Host, PciAddress, PciDevice, Use, UseKind

_ROOT = "/"
_MOST_SAID = 12
"""Names in a sentence."""


@dataclass(frozen=True, slots=True)
class _Loss:
    """What to say of a kind of use. The hint: a way out; or, under a condition, to accept it."""

    kind: FindingKind
    sentence: str
    way_out: str
    condition: str


_OF_USES: Mapping[UseKind, _Loss] = {
    UseKind.MOUNT: _Loss(
        FILESYSTEM,
        "mounted from {at}: {things}",
        "unmount it, or move it to a disk at another controller",
        "where the host can do without",
    ),
    UseKind.SWAP: _Loss(
        SWAP,
        "swap is on {at}: {things}",
        "swapoff, and take it out of fstab",
        "where the host has the memory for what is in it",
    ),
    UseKind.DEFAULT_ROUTE: _Loss(
        DEFAULT_ROUTE,
        "the default route is over {at}: {things}",
        "give the host another uplink",
        "where you have another way in (a BMC, a serial console)",
    ),
    UseKind.SSH_SESSION: _Loss(
        SSH_SESSION,
        "this SSH session is over {at}: {things}",
        "come in by another interface, or by the machine's own console",
        "where you can get back in",
    ),
    UseKind.KEYBOARD: _Loss(
        KEYBOARD,
        "{things} is at {at}",
        "plug a keyboard into a port of another USB controller",
        "where you come in by network",
    ),
}
_OF_THE_ROOT = "the host runs from it: boot it from a disk at another controller"

_DISPLAY = _Loss(
    BOOT_DISPLAY,
    "{at} is the display that firmware booted with; the console goes with it",
    "choose another primary display in the firmware set-up",
    "where you have another console",
)
_BMC = _Loss(
    BMC_CONSOLE,
    "{at} is what the BMC's remote console shows ({things}); that goes with it",
    "leave it to the host",
    "where nobody needs that console",
)
_FIRMWARE = _Loss(
    # vfio-pci removes it since Linux 6.0: d17378062079, "vfio/pci: Remove console drivers".
    FRAMEBUFFER,
    "the framebuffer that firmware set up is in {things} of {at}: vfio-pci may fail to reserve "
    'that ("BAR N: can\'t reserve")',
    "boot without it: initcall_blacklist=sysfb_init, or with efifb video=efifb:off (simpledrm does "
    "not heed that); this display then stays dark until a driver of its own loads, also when the "
    "boot fails. Since Linux 6.0 vfio-pci takes it off a VGA device by itself",
    "where that is so and you have another console",
)

_ARRAY = re.compile(r"(?P<name>[^\s…]+) \((?P<level>raid\d+|bond), (?P<here>\d+) of (?P<all>\d+)\)")
_SPARE = {"raid4": 1, "raid5": 1, "raid6": 2, "raid10": 1}
"""Members that an array can lose for sure (md(4)); mirrors and bonds need one to live on."""


def blast_findings(
    host: Host, functions: tuple[PciDevice, ...], foreign: tuple[PciDevice, ...]
) -> list[Finding]:
    """What goes with the functions that go, and what would go with the rest of their groups."""
    going = (*functions, *foreign)
    lost = _members_lost(use for device in going for use in _uses_of(host, device))
    found: list[Finding] = []
    for device in going:
        # Who can be handed over can be named to be let go; the rest of a group stays in the way.
        accept = any(other.is_gpu for other in host.slot_of(device))
        found += _display_findings(host, device, accept=accept)
        found += _use_findings(host, device, lost, accept=accept)
    return found


def _display_findings(host: Host, device: PciDevice, *, accept: bool) -> list[Finding]:
    found = []
    if device.boot_vga:
        found.append(_finding(_DISPLAY, device.address, accept=accept))
    bmc = BMC_DISPLAYS.get((device.vendor_id, device.device_id))
    if bmc is not None:
        found.append(_finding(_BMC, device.address, bmc, accept=accept))
    regions = _framebuffers_in(host, device)
    if regions:
        found.append(_finding(_FIRMWARE, device.address, _joined(regions), accept=accept))
    return found


def _framebuffers_in(host: Host, device: PciDevice) -> list[str]:
    """The BARs that a framebuffer lies in, each with the names of the regions there."""
    found: dict[int, dict[str, None]] = {}
    for bar in device.bars:
        for framebuffer in host.platform.framebuffers:
            apart = framebuffer.end < bar.start or bar.start + bar.size <= framebuffer.start
            if not (bar.io or bar.unassigned or apart):
                found.setdefault(bar.index, {})[framebuffer.name] = None
    return [f"BAR {index} ({', '.join(names)})" for index, names in sorted(found.items())]


def _use_findings(
    host: Host, device: PciDevice, lost: dict[str, int], *, accept: bool
) -> list[Finding]:
    """One finding for each kind of use."""
    uses = _uses_of(host, device)
    found = []
    for kind, loss in _OF_USES.items():
        same = [use for use in uses if use.kind is kind]
        if not same:
            continue
        things = sorted({use.what for use in same}, key=lambda what: (what != _ROOT, what))
        through = list(dict.fromkeys(name for use in same for name in use.through))
        between = f", through {_listed(through)}" if through else ""
        fates = "".join(f"; {clause}" for clause in _array_clauses(through, lost))
        if kind is UseKind.MOUNT and _ROOT in things:
            loss = replace(loss, way_out=_OF_THE_ROOT)
        found.append(
            _finding(loss, device.address, _joined(things), accept=accept, more=f"{between}{fates}")
        )
    return found


def _uses_of(host: Host, device: PciDevice) -> list[Use]:
    """The uses of a function and of what is behind it: disks behind a VMD controller."""
    return [
        use
        for use in host.uses
        if use.device == device.address
        or ((used := host.device(use.device)) is not None and device.address in used.upstream)
    ]


def _members_lost(uses: Iterable[Use]) -> dict[str, int]:
    """How many members each array and bond loses when all that may go goes."""
    here: dict[str, dict[PciAddress, int]] = {}
    for use in uses:
        for match in filter(None, map(_ARRAY.fullmatch, use.through)):
            here.setdefault(match["name"], {})[use.device] = int(match["here"])
    return {name: sum(members.values()) for name, members in here.items()}


def _array_clauses(through: Iterable[str], lost: dict[str, int]) -> list[str]:
    clauses = {}
    for match in filter(None, map(_ARRAY.fullmatch, through)):
        name, members = match["name"], int(match["all"])
        spare = _SPARE.get(match["level"], members - 1)
        fate = "lives on with less redundancy" if lost[name] <= spare else "fails"
        clauses[name] = f"{name} loses {lost[name]} of {members} members and {fate}"
    return list(clauses.values())


def _finding(
    loss: _Loss, at: PciAddress, things: str = "", *, accept: bool, more: str = ""
) -> Finding:
    message = loss.sentence.format(at=at, things=things) + more
    accepting = f"; or, {loss.condition}, --accept-loss {at}" if accept else ""
    return replace(finding(loss.kind, at, message, loss.way_out + accepting), acceptable=accept)


def _joined(things: Sequence[str]) -> str:
    """a, b and c."""
    if len(things) > _MOST_SAID or len(things) == 1:
        return _listed(things)
    return f"{', '.join(things[:-1])} and {things[-1]}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_SAID
    return ", ".join(names[:_MOST_SAID]) + (f" and {more} more" if more > 0 else "")
