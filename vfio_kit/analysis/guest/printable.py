"""What a guest said, made fit for a terminal: a guest is not trusted with ours."""

import dataclasses
from typing import Any

from vfio_kit.model.health import Check, GpuHealth

_MOST = 400
"""Characters of an evidence; the whole is in the guest."""


def printable(text: str, most: int = _MOST) -> str:
    """One line without control characters, `most` characters long at the most.

    What str.isprintable() calls unprintable becomes U+FFFD: escape sequences, and marks that turn
    the direction of writing.
    """
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in _joined(text))
    return line if len(line) <= most else line[: most - 1] + "…"


def printable_check(check: Check) -> Check:
    """The check with an evidence and a remedy that a terminal can take."""
    return dataclasses.replace(
        check, evidence=printable(check.evidence), remedy=printable(check.remedy)
    )


def printable_gpu(gpu: GpuHealth) -> GpuHealth:
    """The GPU with texts that a terminal can take."""
    texts: dict[str, Any] = {
        field.name: printable(value)
        for field in dataclasses.fields(gpu)
        if isinstance(value := getattr(gpu, field.name), str)
    }
    reasons = tuple(printable(reason) for reason in gpu.throttle_reasons)
    return dataclasses.replace(gpu, **texts, throttle_reasons=reasons)


def _joined(text: str) -> str:
    return " ".join(text[: 8 * _MOST].split())
