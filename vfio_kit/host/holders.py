"""Which processes hold device nodes of GPUs open."""

from collections.abc import Sequence

from vfio_kit.host.tree import Tree
from vfio_kit.model import Holder, PciAddress


def read_holders(tree: Tree, devices: Sequence[PciAddress]) -> tuple[Holder, ...]:
    """The holders of nodes of these functions, by device and process."""
    return ()
