"""What the host uses its devices for: filesystems, swap, routes, the SSH session, keyboards."""

from vfio_kit.host.tree import Tree
from vfio_kit.model import Use


def read_uses(tree: Tree) -> tuple[Use, ...]:
    """All uses, by device."""
    return ()
