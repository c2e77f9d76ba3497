"""VK5xx: what could not be read."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.model import Level

UNREADABLE = FindingKind("VK501", Level.WARN, "an attribute could not be read")
NOT_ROOT = FindingKind("VK502", Level.INFO, "not run as root: some things cannot be seen")
