"""Where a snapshot keeps what is no file of the machine."""

MANIFEST = "vfio-kit-snapshot"
VERSION = "vfio-kit/snapshot/1"
"""What the manifest says."""
NAMES = "extracts/names"
"""Lines of address, tab, hardware name."""
PROBLEMS = "extracts/problems"
"""Lines of path, tab, reason."""
