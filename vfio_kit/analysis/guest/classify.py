"""Which known failure the result of a probe shows."""

from vfio_kit.analysis.guest.printable import printable
from vfio_kit.knowledge.signatures import SIGNATURES, Signature
from vfio_kit.model.health import Check, CheckStatus, CommandResult

_LINE = 160


def classify(probe: str, result: CommandResult) -> Signature | None:
    """The known failure that a result shows; None where it shows none.

    A text says more than an exit status, and a failure more than a warning.
    """
    rows = [row for row in SIGNATURES if row.probe == probe]
    said = result.stdout + result.stderr
    found = [row for row in rows if row.text is not None and row.text in said]
    found += [row for row in rows if row.exit_status == result.exit_status]
    failures = (row for row in found if row.status is CheckStatus.FAILED)
    return next(failures, found[0] if found else None)


def failure(probe: str, result: CommandResult, *, first: bool) -> Check | None:
    """The check of a tool that says, or shows by its exit status, that something is wrong.

    first  whether the tool begins with what is wrong; else it ends with it.
    """
    known = classify(probe, result)
    lines = (result.stdout.strip() or result.stderr.strip()).splitlines()
    is_document = result.stdout.lstrip().startswith("<?xml")
    line = "" if is_document or not lines else lines[0] if first else lines[-1]
    if known is not None and known.text is not None:
        line = _telling(lines, known.text.rstrip()) or line
    shown = f"exit {result.exit_status}" + (f": {printable(line, _LINE)}" if line else "")
    if known is not None:
        evidence = f"{known.meaning} ({shown})"
        return Check(probe, known.status, evidence, known.remedy, known.cause)
    if result.exit_status:
        remedy = "in the guest: sudo dmesg | grep -i -e NVRM -e Xid -e nvidia"
        return Check(probe, CheckStatus.FAILED, shown, remedy, "unknown")
    return None


def _telling(lines: list[str], text: str) -> str:
    """The line that holds a text, with the reason that CUDA puts into the next, behind an arrow."""
    for number, line in enumerate(lines):
        if text in line:
            reason = "".join(lines[number + 1 : number + 2])
            return f"{line} {reason}" if reason.startswith("-> ") else line
    return ""
