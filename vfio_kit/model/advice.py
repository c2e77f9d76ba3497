"""Nouns of the advice on a GPU: what drives it, with which CUDA, where, and says who."""

import re
from dataclasses import dataclass
from enum import StrEnum

_VERSION = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, order=True, slots=True)
class Version:
    """Two numbers that compare as numbers: CUDA 9.1 < 11.4, Linux 5.15 < 6.8, capability 3.7."""

    major: int
    minor: int

    @classmethod
    def leading(cls, text: str) -> "Version | None":
        """The version that `text` begins with: 6.12 of `6.12.0-amd64`; None where there is none."""
        match = _VERSION.match(text)
        return None if match is None else cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


class OpenModules(StrEnum):
    """Whether NVIDIA's open kernel modules drive a chip."""

    NO = "no"
    YES = "yes"
    ONLY = "only"
    """The proprietary modules do not drive it at all."""


class Drivable(StrEnum):
    """Whether a host's kernel could drive a card itself."""

    YES = "yes"
    PATCHED = "patched"
    """Only with a driver whose sources were patched for the kernel, outside a stable release."""
    NOT_KNOWN = "not-known"
    """Nobody is known to have built one; that is not to say that nobody can."""
    KERNEL_UNKNOWN = "kernel-unknown"


class Way(StrEnum):
    """What to do with a card."""

    PASSTHROUGH = "passthrough"
    NOT_NEEDED = "not-needed"
    """The host drives it with a driver that is still developed."""
    UNDECIDED = "undecided"
    """A current card, and no driver is known for this host's kernel."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Yes or no, why, and who says so (a URL, or the name of a document)."""

    supported: bool
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class KernelRange:
    """Linux versions, both ends included, on which a driver branch is known to build."""

    first: Version
    last: Version
    source: str
    stable: bool = True
    """False: as patched by a distribution, in no stable release of it."""

    def holds(self, kernel: Version) -> bool:
        return self.first <= kernel <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class GuestPackage:
    """A system whose archive carries a driver branch, and the package to install there."""

    guest: str
    package: str
    source: str


@dataclass(frozen=True, slots=True)
class BranchAnswer:
    """One driver branch and one chip."""

    branch: int
    answer: Answer
    release: str | None
    """The newest release of the branch that the table knows."""
    native_cuda: Version
    """What the branch's libcuda speaks."""
    cuda: Version | None
    """The newest CUDA toolkit for the chip on this branch; None where it is not supported."""
    ollama: str | None
    """Newest stock Ollama: a version, `latest`, or None where none is known to run."""
    guests: tuple[GuestPackage, ...]
    kernels: tuple[KernelRange, ...]


@dataclass(frozen=True, slots=True)
class OllamaAnswer:
    """The newest stock Ollama on the recommended driver."""

    version: str | None
    driver: int
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """Whether the machine at hand could drive the card itself. `kernel` is empty if unknown."""

    kernel: str
    drivable: Drivable
    branches: tuple[int, ...]
    """Those that support the card and are known to build on the kernel, oldest first."""
    reason: str
    source: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another driver for the card, with its newest CUDA toolkit."""

    driver: int
    cuda: Version


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do. `summary` is one sentence."""

    way: Way
    summary: str
    driver: int
    release: str | None
    cuda: Version
    guest: str | None
    """A guest system of vfio-kit whose archive carries the driver."""
    installed: bool
    """Whether vfio-kit installs the driver in that guest."""
    alternatives: tuple[Alternative, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advice:
    """All that is known about driving a GPU. `branches` are in order of their numbers."""

    ids: str
    name: str
    chip: str
    architecture: str
    compute_capability: Version
    first_cuda: Version
    last_cuda: Version | None
    """None: still in the current toolkit."""
    last_branch: int | None
    """None: the branches go on."""
    source: str
    branches: tuple[BranchAnswer, ...]
    open_modules: Answer
    nouveau: Answer
    ollama: OllamaAnswer
    host: HostAnswer
    recommendation: Recommendation


@dataclass(frozen=True, slots=True)
class UnknownGpu:
    """A device about which nothing is said, and why. `ids` is None if a name was all there was."""

    ids: str | None
    name: str | None
    reason: str
