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
class LinkHealth:
    """A PCIe link as sysfs has it: speeds in GT/s, widths in lanes; `max_*` is what it could."""

    speed: float | None
    width: int | None
    max_speed: float | None
    max_width: int | None


@dataclass(frozen=True, slots=True)
class GpuHealth:
    """One GPU as the guest's own kernel and tools describe it; None where none of them said."""

    name: str | None
    driver: str | None
    cuda: str | None
    """What the driver speaks, as nvidia-smi has it: 11.4."""
    memory_mib: int | None
    compute_capability: str | None
    device_query: str | None
    """PASS, FAIL, or None."""
    bus_id: str | None = None
    ids: str | None = None
    """vendor:device, as in 10de:13f1."""
    uuid: str | None = None
    bar1_mib: int | None = None
    link: LinkHealth | None = None
    temperature_c: int | None = None
    ecc: str | None = None
    """Enabled, Disabled, or None where the card has none."""
    uncorrected_errors: int | None = None
    """Volatile double-bit ECC errors: since the driver was loaded."""
    retirement_pending: bool | None = None
    """Whether pages wait for a reboot to be retired (or rows to be remapped)."""
    persistence: str | None = None
    throttle_reasons: tuple[str, ...] = ()
    """The active ones, by nvidia-smi's names, without `gpu_idle`."""


class CheckStatus(StrEnum):
    """The outcome of one rung."""

    OK = "ok"
    WARN = "warn"
    """It works, and not as well as it could, or not for long."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """It does not apply here: a machine without cloud-init, a burn that nobody asked for."""
    NOT_RUN = "not-run"


@dataclass(frozen=True, slots=True)
class Check:
    """One rung of the verification; `cause` names a known failure (knowledge/signatures)."""

    code: str
    status: CheckStatus
    evidence: str
    remedy: str = ""
    cause: str | None = None
    explained_by: str | None = None
    """The code of the lower rung whose failure is the reason of this one."""


class Fitness(StrEnum):
    """What follows from all rungs."""

    FIT = "healthy"
    UNFIT = "not healthy"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Planned:
    """What the VM was made with, as far as that is written down; empty or None: not known."""

    functions: tuple[str, ...] = ()
    """vendor:device of every function that was handed over, in the order of their addresses."""
    gpu_count: int | None = None
    driver: str | None = None
    """The branch, as in 470; None where vfio-kit installed none."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What is known of a guest's GPUs, and how it came to be known."""

    host: str
    gpus: tuple[GpuHealth, ...]
    checks: tuple[Check, ...]
    seconds: float = 0.0

    @property
    def fitness(self) -> Fitness:
        reached = (CheckStatus.OK, CheckStatus.SKIPPED)  # skipped: this machine itself
        if self.checks and self.checks[0].status not in reached:
            return Fitness.NOT_CHECKED
        return Fitness.FIT if self.healthy else Fitness.UNFIT

    @property
    def healthy(self) -> bool:
        """A GPU, and no rung that failed or was not run; warnings do not count."""
        bad = (CheckStatus.FAILED, CheckStatus.NOT_RUN)
        return bool(self.gpus) and not any(check.status in bad for check in self.checks)
