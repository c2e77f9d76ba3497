"""vfio-kit: from a GPU the host cannot drive to a VM that can, and back again without a trace."""

__version__ = "0.9.0"
