"""The findings: stable codes, their weight, their name, and the whole story behind each.

VK1xx isolation, VK2xx the host's readiness, VK3xx the device, VK4xx what the host would lose, VK5xx
what could not be read, VK6xx the guest's software, VK7xx its place on the host: a module each.
`vfio-kit explain` and docs/findings.md print this table. A row is all that a new finding takes: the
modules are imported whole for that.
"""

from vfio_kit.knowledge.findings.device import *  # noqa: F403
from vfio_kit.knowledge.findings.host import *  # noqa: F403
from vfio_kit.knowledge.findings.isolation import *  # noqa: F403
from vfio_kit.knowledge.findings.kind import CHAPTERS as CHAPTERS
from vfio_kit.knowledge.findings.kind import LEVELS as LEVELS
from vfio_kit.knowledge.findings.kind import FindingKind as FindingKind
from vfio_kit.knowledge.findings.loss import *  # noqa: F403
from vfio_kit.knowledge.findings.placement import *  # noqa: F403
from vfio_kit.knowledge.findings.reading import *  # noqa: F403
from vfio_kit.knowledge.findings.software import *  # noqa: F403
from vfio_kit.model import Finding, PciAddress

FINDING_KINDS: tuple[FindingKind, ...] = tuple(
    sorted(
        (value for value in tuple(globals().values()) if isinstance(value, FindingKind)),
        key=lambda kind: kind.code,
    )
)


def finding(kind: FindingKind, device: PciAddress | None, message: str, hint: str = "") -> Finding:
    """A finding of this kind about `device`."""
    return Finding(kind.code, kind.level, device, message, hint, kind.acceptable)
