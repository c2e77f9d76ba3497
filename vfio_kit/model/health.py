"""Nouns of verification: what a guest said, and what follows from it."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command in a guest gave back."""

    exit_status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class GpuHealth:
    """One GPU as the guest's own tools describe it; None where no tool said."""

    name: str | None
    driver: str | None
    cuda: str | None
    memory_mib: int | None
    compute_capability: str | None
    device_query: str | None
    bus_id: str | None = None


class CheckStatus(StrEnum):
    """The outcome of one check."""

    OK = "ok"
    FAILED = "failed"
    NOT_RUN = "not-run"


@dataclass(frozen=True, slots=True)
class Check:
    """One rung of the verification; `cause` names a known failure (knowledge/signatures)."""

    code: str
    status: CheckStatus
    evidence: str
    remedy: str = ""
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What is known of a guest's GPUs, and how it came to be known."""

    host: str
    gpus: tuple[GpuHealth, ...]
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        return bool(self.gpus) and all(check.status is CheckStatus.OK for check in self.checks)
