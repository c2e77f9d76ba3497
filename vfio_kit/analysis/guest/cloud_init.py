"""Reads what cloud-init says of itself: `cloud-init status --format json`, and its status.json.

On 22.x the exit status is 0 for a degraded run, so the document decides. `last_update` has no fixed
format and is left alone.
"""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CloudInitStatus:
    """status: done, error, running, disabled…; errors: fatal ones and recoverable ones alike.

    deprecated: what it did as it was told to, by words that a later release will not know.
    """

    status: str
    errors: tuple[str, ...]
    deprecated: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Ended, and without a single error: degraded is not success.

        Nor is a deprecation an error, though cloud-init has called a run with one degraded since
        23.4: it does so of every VM whose user-data Proxmox wrote.
        """
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
        deprecated = tuple(str(message) for message in recoverable.pop(_DEPRECATED, None) or [])
        errors += [f"{level}: {message}" for level, many in recoverable.items() for message in many]
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f"not cloud-init's status: {text[:80]!r}") from None
    if not isinstance(status, str):
        raise ValueError(f"not cloud-init's status: {text[:80]!r}")
    return CloudInitStatus(status, tuple(errors), deprecated)


_DEPRECATED = "DEPRECATED"
"""The level of such messages, between INFO and WARNING (cloud-init, cloudinit/log)."""

STAGES = ("init-local", "init", "modules-config", "modules-final")
"""cloud-init's stages, in their order."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as status.json has it; times in seconds since 1970, by the guest's own clock."""

    name: str
    start: float | None
    finished: float | None
    errors: tuple[str, ...]
    recoverable: tuple[str, ...]
    """With their level in front: `WARNING: ...`. Words that are deprecated are none."""

    @property
    def seconds(self) -> float | None:
        """How long it took; None before its end, and where the clock was set meanwhile."""
        if self.start is None or self.finished is None or self.finished < self.start:
            return None
        return self.finished - self.start


@dataclass(frozen=True, slots=True)
class CloudInitRun:
    """cloud-init in this boot, while it runs and afterwards."""

    stages: tuple[Stage, ...]

    @property
    def running(self) -> str | None:
        """The stage that was begun last and has not ended."""
        begun = [s.name for s in self.stages if s.start is not None and s.finished is None]
        return begun[-1] if begun else None

    @property
    def ended(self) -> bool:
        """Whether the last stage has."""
        return bool(self.stages) and self.stages[-1].finished is not None

    @property
    def errors(self) -> tuple[str, ...]:
        """The fatal ones of all stages."""
        return tuple(error for stage in self.stages for error in stage.errors)

    @property
    def recoverable(self) -> tuple[str, ...]:
        """The recoverable ones of all stages: with them it is degraded."""
        return tuple(error for stage in self.stages for error in stage.recoverable)


def parse_run(text: str) -> CloudInitRun:
    """Reads /run/cloud-init/status.json, which changes as a whole; ValueError where it is none.

    Since 23.4 each stage has `recoverable_errors` by level; before it had none.
    """
    try:
        document: Any = json.loads(text)
        stages = tuple(_stage(name, document["v1"].get(name) or {}) for name in STAGES)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise ValueError(f"not cloud-init's status.json: {text[:80]!r}") from None
    return CloudInitRun(stages)


def _stage(name: str, values: dict[str, Any]) -> Stage:
    levels = values.get("recoverable_errors") or {}
    return Stage(
        name,
        _time(values.get("start")),
        _time(values.get("finished")),
        tuple(str(error) for error in values.get("errors") or []),
        tuple(
            f"{level}: {message}"
            for level, many in levels.items()
            if level != _DEPRECATED
            for message in many
        ),
    )


def _time(value: Any) -> float | None:
    return float(value) if value else None
