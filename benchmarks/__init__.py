"""Measurements of the tool beside their floors: `python -m benchmarks`."""
