"""How much memory a guest gets for its GPUs, where the operator does not say."""

LEAST_MIB = 8192
"""For a guest with any card, and what an M4000 with its 8 GiB takes."""
