"""Texts of the tools in a guest, as files: what they printed, and their exit status."""

from pathlib import Path

from vfio_kit.model.health import CommandResult

FIXTURES = Path(__file__).parents[1] / "fixtures"


def text(name: str) -> str:
    return (FIXTURES / name).read_text("utf-8")


def result(name: str) -> CommandResult:
    """A file of the form `exit N`, `--- stdout`, its text, `--- stderr`, its text."""
    head, _, rest = text(name).partition("--- stdout\n")
    stdout, _, stderr = rest.partition("--- stderr\n")
    return CommandResult(int(head.removeprefix("exit ")), stdout, stderr)
