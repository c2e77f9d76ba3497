"""Where a snapshot keeps what is no file of the machine."""

MANIFEST = "vfio-kit-snapshot"
VERSION = "vfio-kit/snapshot/1"
"""What the manifest says."""
NAMES = "extracts/names"
"""Lines of address, tab, hardware name."""
PROBLEMS = "extracts/problems"
"""Lines of path, tab, reason."""
MOST_MEMBERS = 100_000
"""Files, links and folders: more than twice what a host with 4,000 PCI functions has."""
