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


def healthy(card: str = "m4000", **other: CommandResult | None) -> dict[str, CommandResult]:
    """What the probes of a healthy guest give; `other` by code, with _ for -, None to leave out."""
    results = {
        "cloud-init": _said("healthy/cloud-init.json"),
        "pci": _said(f"healthy/{card}-pci.txt"),
        "module": _said("healthy/module.txt"),
        "nvidia-smi": _said(f"healthy/{card}-smi.xml"),
        "device-query": _said(f"healthy/{card}-device-query.txt"),
        "kernel-log": _said("healthy/kernel-log.txt"),
    }
    for name, given in other.items():
        code = name.replace("_", "-")
        if given is None:
            del results[code]
        else:
            results[code] = given
    return results


def _said(name: str) -> CommandResult:
    return CommandResult(0, text(name), "")
