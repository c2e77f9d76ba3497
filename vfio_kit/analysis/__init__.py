"""PURE: judges what was read; values in, values out."""
