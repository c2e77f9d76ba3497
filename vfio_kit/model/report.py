"""Nouns of the judgement: findings, verdicts, the report on a GPU."""

from dataclasses import dataclass
from enum import StrEnum

from vfio_kit.model.pci import PciAddress, PciDevice


class Level(StrEnum):
    """How much a finding weighs."""

    BLOCK = "block"
    WARN = "warn"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about one device, with the next step. Codes: knowledge/findings."""

    code: str
    level: Level
    device: PciAddress | None
    message: str
    hint: str = ""
    acceptable: bool = False
    """Of a finding that blocks: whether `--accept-loss` with its device lifts it."""


class Verdict(StrEnum):
    """Whether a GPU is isolated from the rest of the host."""

    ISOLATED = "isolated"
    OVERRIDDEN = "overridden"
    """The groups say isolated; pcie_acs_override made them so."""
    SHARED = "shared"
    NO_IOMMU = "no-iommu"


@dataclass(frozen=True, slots=True)
class GpuReport:
    """The verdict on one GPU and what it rests on."""

    gpu: PciDevice
    verdict: Verdict
    functions: tuple[PciDevice, ...]
    """All that go along with the GPU, itself included."""
    foreign_endpoints: tuple[PciDevice, ...]
    bridges: tuple[PciDevice, ...]
    findings: tuple[Finding, ...]
    board: tuple[PciAddress, ...] = ()
    """All GPUs of a board that carries several, this one included; empty otherwise."""
    host_blocked: bool = False
    """Whether a finding about the whole host blocks."""

    @property
    def can_go(self) -> bool:
        """As it stands: isolated, and nothing blocks."""
        return (
            self.verdict is Verdict.ISOLATED
            and not self.host_blocked
            and not any(finding.level is Level.BLOCK for finding in self.findings)
        )
