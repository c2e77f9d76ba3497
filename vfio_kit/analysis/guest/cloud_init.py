"""Reads `cloud-init status --format json`.

On 22.x the exit status is 0 for a degraded run, so the document decides. `last_update` has no fixed
format and is left alone.
"""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CloudInitStatus:
    """status: done, error, running, disabled…; errors: fatal ones and recoverable ones alike."""

    status: str
    errors: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Ended, and without a single error: degraded is not success."""
        return self.status == "done" and not self.errors


def parse_status(text: str) -> CloudInitStatus:
    """Reads the document, also behind the dots that --wait may print; ValueError where none is."""
    begin = text.find("{")
    try:
        document: Any = json.loads(text[begin:]) if begin >= 0 else {}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not cloud-init's status: {error}") from None
    try:
        status, fatal = document["status"], document.get("errors") or []
        recoverable = document.get("recoverable_errors") or {}
        errors = [str(error) for error in fatal]
        errors += [f"{level}: {message}" for level, many in recoverable.items() for message in many]
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f"not cloud-init's status: {text[:80]!r}") from None
    if not isinstance(status, str):
        raise ValueError(f"not cloud-init's status: {text[:80]!r}")
    return CloudInitStatus(status, tuple(errors))
