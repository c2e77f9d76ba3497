"""Measurements of vfio-kit beside their floors: `python -m benchmarks`."""

from benchmarks import prealloc, render, scan, verify
from benchmarks.lab import bake, up
from benchmarks.row import Benchmark

BENCHMARKS: tuple[Benchmark, ...] = (
    scan.BENCHMARK,
    render.BENCHMARK,
    verify.BENCHMARK,
    prealloc.BENCHMARK,
    up.BENCHMARK,
    bake.BENCHMARK,
    prealloc.LAB_BENCHMARK,
)
"""In the order of the table."""
