"""`up` beside QEMU by hand and virt-install, and a microvm beside a q35: benchmarks/lab/up.py."""

import json
from collections.abc import Iterator

import pytest

from benchmarks.lab.up import BENCHMARK, prepared, started
from benchmarks.results import Measured
from benchmarks.setting import setting
from benchmarks.table import head, lines

from .conftest import LabHost

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]


@pytest.fixture
def ready(gpuhost: LabHost) -> Iterator[LabHost]:
    with prepared(gpuhost):
        yield gpuhost


def test_a_microvm_greets_no_later_than_a_q35(ready: LabHost) -> None:
    """With the card, which both see at the same place; docs/machine.md has the numbers."""
    found = {way: started(ready, way) for way in ("bare", "microvm")}
    print(json.dumps(found))
    took = {way: times["greeting"] - times["started"] for way, times in found.items()}
    assert took["microvm"] <= 1.1 * took["bare"]


def test_up_costs_little_more_than_qemu_and_less_than_virt_install(gpuhost: LabHost) -> None:
    rows = tuple(BENCHMARK.rows(gpuhost, BENCHMARK.runs))
    print("\n".join([head(), *lines(Measured(BENCHMARK.name, setting(), rows))]))
    assert all(row.holds for row in rows)
