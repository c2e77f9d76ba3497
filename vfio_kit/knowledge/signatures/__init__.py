"""What a guest's tools and kernel say when something is wrong, and what it means.

A row is one table entry and one fixture: tests/fixtures/PROBE/CAUSE.text.txt, or CAUSE.N.txt for a
row that goes by its exit status N.
"""

from vfio_kit.knowledge.signatures.kernel import KERNEL_LOG
from vfio_kit.knowledge.signatures.row import Signature
from vfio_kit.knowledge.signatures.tools import BURN, DEVICE_QUERY, NVIDIA_SMI
from vfio_kit.knowledge.signatures.xid import XIDS, Xid

SIGNATURES: tuple[Signature, ...] = (*NVIDIA_SMI, *DEVICE_QUERY, *BURN, *KERNEL_LOG)

__all__ = ["KERNEL_LOG", "SIGNATURES", "XIDS", "Signature", "Xid"]
