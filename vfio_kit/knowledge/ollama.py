"""Which stock release of Ollama runs on which card and driver; newest first, the first row counts.

Too old a driver makes no error there: Ollama runs on the CPU and says so in its log alone.
"""

from dataclasses import dataclass

from vfio_kit.model.advice import Version

LATEST = "latest"

NO_ROW_SOURCE = "https://docs.ollama.com/gpu"
LEAST_CAPABILITY = Version(5, 0)
"""What stock builds are compiled for. Source: https://docs.ollama.com/gpu"""


@dataclass(frozen=True, slots=True)
class OllamaRow:
    """A release, and the cards (by compute capability, ends included) and drivers that it wants."""

    version: str
    first_capability: Version
    last_capability: Version | None
    first_branch: int
    reason: str
    source: str


OLLAMA: tuple[OllamaRow, ...] = (
    OllamaRow(
        LATEST,
        Version(5, 0),
        Version(6, 2),
        570,
        "0.30 and newer want driver 570 for compute capability 5.0 to 6.2",
        "https://docs.ollama.com/gpu; https://github.com/ollama/ollama/issues/16415",
    ),
    OllamaRow(
        LATEST,
        Version(7, 0),
        None,
        550,
        "0.30 and newer want driver 550",
        "https://docs.ollama.com/gpu; https://github.com/ollama/ollama/issues/17290",
    ),
    OllamaRow(
        "0.24.0",
        Version(5, 0),
        None,
        535,
        "0.30 wants a newer driver than this one",
        "https://github.com/ollama/ollama/issues/16449; "
        "https://github.com/ollama/ollama/issues/17290",
    ),
    OllamaRow(
        "0.9.2",
        Version(5, 0),
        None,
        470,
        "0.9.3 left CUDA 11 out, which driver 470 needs",
        "https://github.com/ollama/ollama/pull/10569; "
        "https://github.com/ollama/ollama/issues/12770",
    ),
)


@dataclass(frozen=True, slots=True)
class OllamaFork:
    """A build of others for a capability that stock builds leave out."""

    capability: Version
    name: str
    source: str


OLLAMA_FORKS: tuple[OllamaFork, ...] = (
    OllamaFork(Version(3, 7), "ollama37", "https://github.com/ollama/ollama/issues/9620"),
)
