"""The rung of the kernel log."""

from dataclasses import replace

from vfio_kit.analysis.guest.kernel_log import KernelLog, LogEvent
from vfio_kit.analysis.guest.printable import printable
from vfio_kit.model.health import Check, CheckStatus

_CODE = "kernel-log"
_SHOWN = 3
_LINE = 140
_READ = (
    "let the user read it: sudo usermod -aG adm USER (or systemd-journal), or sudo without password"
)
_HANGS = (
    "in the guest: sudo dmesg; if that answers, the journal is slow or damaged: a longer "
    "--timeout; journalctl --verify"
)
_WORST = (CheckStatus.FAILED, CheckStatus.WARN)


def log_check(log: KernelLog, said: str = "", holds: frozenset[str] = frozenset()) -> Check:
    """The worst events first, each with its number and its last line.

    said   what the probe wrote to stderr, which tells of one that broke off.
    holds  the codes of other rungs that hold: what would have made them fail is a warning, no more.
    """
    if log.source is None and said.strip():
        return Check(_CODE, CheckStatus.WARN, said.strip(), _HANGS, "timed-out")
    if log.source is None:
        evidence = "neither journalctl nor dmesg may be read by this user"
        return Check(_CODE, CheckStatus.WARN, evidence, _READ, "unreadable")
    events = [_past(event) if event.lasts in holds else event for event in log.events]
    bad = [event for status in _WORST for event in events if event.status is status]
    noted = [event.meaning for event in log.events if event.status is CheckStatus.OK]
    if not bad:
        evidence = "no Xid, RmInitAdapter or AER error since boot"
        return Check(_CODE, CheckStatus.OK, "; ".join((evidence, *noted)))
    evidence = "; ".join(_words(event) for event in bad[:_SHOWN])
    if len(bad) > _SHOWN:
        evidence += "; also " + ", ".join(event.cause for event in bad[_SHOWN:])
    return Check(_CODE, bad[0].status, evidence, bad[0].remedy, bad[0].cause)


def _past(event: LogEvent) -> LogEvent:
    remedy = f"nothing: it is past, for {event.lasts} holds; after a reboot it is out of the log"
    return replace(event, status=CheckStatus.WARN, meaning=f"past: {event.meaning}", remedy=remedy)


def _words(event: LogEvent) -> str:
    times = "once" if event.count == 1 else f"{event.count} times"
    when = "" if event.seconds is None else f" at {event.seconds:.0f} s"
    return f"{event.meaning}, {times}, last{when}: {printable(event.last, _LINE)}"
