"""Reads what the probe picked from a guest's kernel log: what happened, how often, when last."""

import re
from dataclasses import dataclass, replace

from vfio_kit.knowledge.signatures import KERNEL_LOG, XIDS
from vfio_kit.model.health import CheckStatus

_XID = re.compile(r"NVRM: Xid \((?P<place>[^)]{1,60})\): (?P<number>\d{1,4}),?", re.ASCII)
_HEAD = re.compile(
    r"^(?:<\d{1,3}>)?\[\s*(?P<seconds>\d{1,10}\.\d+)\](?:\[\s*[TC]\d+\])? "
    r"(?:(?:\S+ )?kernel: )?",
    re.ASCII,
)
"""As dmesg and `journalctl -o short-monotonic` begin a line."""
_ROWS = {row.number: row for row in XIDS}


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One kind of trouble: `count` lines of it, and the last of them."""

    cause: str
    status: CheckStatus
    meaning: str
    remedy: str
    count: int
    last: str
    seconds: float | None
    """Of the last line, since boot; None where the log does not say."""
    lasts: str | None = None
    """See Signature."""


@dataclass(frozen=True, slots=True)
class KernelLog:
    """source: the command that could read the log; None where none could."""

    source: str | None
    events: tuple[LogEvent, ...]
    """In the order in which they came first."""

    def first(self, causes: frozenset[str]) -> LogEvent | None:
        """The first event of one of these causes."""
        return next((event for event in self.events if event.cause in causes), None)


def parse_kernel_log(text: str) -> KernelLog:
    """Sorts the lines of the kernel-log probe by what they mean; other lines are left out."""
    first, _, rest = text.partition("\n")
    source = first.removeprefix("from ").strip() if first.startswith("from ") else ""
    if not source or source == "nothing":
        return KernelLog(None, ())
    events: dict[str, LogEvent] = {}
    seconds: float | None = None
    for line in rest.splitlines():
        # The further lines of a message come without a time of their own, indented by the journal.
        head = None if line.startswith(" ") else _HEAD.match(line)
        if head is not None:
            seconds = float(head["seconds"])
        event = _event(line[head.end() :] if head else line.strip(), seconds)
        if event is not None:
            before = events.get(event.cause)
            events[event.cause] = _again(before, event) if before else event
    return KernelLog(source, tuple(events.values()))


def _again(before: LogEvent, now: LogEvent) -> LogEvent:
    return replace(before, count=before.count + 1, last=now.last, seconds=now.seconds)


def _event(message: str, seconds: float | None) -> LogEvent | None:
    xid = _XID.search(message)
    if xid is not None:
        number = int(xid["number"])
        row = _ROWS.get(number)
        if row is not None:
            return LogEvent(row.cause, row.status, row.meaning, row.remedy, 1, message, seconds)
        meaning = "an event that this version of vfio-kit has no row for"
        remedy = "look it up: https://docs.nvidia.com/deploy/xid-errors/"
        cause, status = f"xid-{number}", CheckStatus.FAILED
        return LogEvent(cause, status, meaning, remedy, 1, message, seconds)
    for known in KERNEL_LOG:
        if known.text is not None and known.text in message:
            meant = (known.cause, known.status, known.meaning, known.remedy)
            return LogEvent(*meant, 1, message, seconds, known.lasts)
    return None
