"""VK4xx: what the host would lose with the device."""

from vfio_kit.knowledge.findings.kind import FindingKind
from vfio_kit.model import Level

FILESYSTEM = FindingKind("VK401", Level.BLOCK, "a mounted filesystem is on it", acceptable=True)
SWAP = FindingKind("VK402", Level.BLOCK, "swap is on it", acceptable=True)
DEFAULT_ROUTE = FindingKind("VK403", Level.BLOCK, "the default route is over it", acceptable=True)
SSH_SESSION = FindingKind("VK404", Level.BLOCK, "this SSH session is over it", acceptable=True)
BMC_CONSOLE = FindingKind("VK405", Level.BLOCK, "it is the BMC's console", acceptable=True)
KEYBOARD = FindingKind("VK406", Level.BLOCK, "the only keyboard is on it", acceptable=True)
