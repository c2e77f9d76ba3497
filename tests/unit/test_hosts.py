"""Machines of many kinds, each against the verdicts that an expert's reasoning gives it.

tests/hosts/README.md says how to add one.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.hosts.load import DESCRIPTIONS, Description, load
from tests.machines import write_machine
from vfio_kit.analysis.isolation import host_findings, judge
from vfio_kit.host.read import read_host
from vfio_kit.knowledge.findings import FINDING_KINDS
from vfio_kit.model import Finding, GpuReport, Host

REASONS = {"VK105", "VK106", "VK107"}
KNOWN = {kind.code for kind in FINDING_KINDS}


@pytest.fixture(params=DESCRIPTIONS, ids=lambda path: str(path.stem))
def description(request: pytest.FixtureRequest) -> Description:
    return load(request.param)


@pytest.fixture
def host(description: Description, tmp_path: Path) -> Host:
    return read_host(write_machine(tmp_path, description.machine))


@pytest.fixture
def reports(host: Host) -> Mapping[str, GpuReport]:
    return {str(report.gpu.address): report for report in judge(host)}


def findings(host: Host, report: GpuReport) -> tuple[Finding, ...]:
    return (*host_findings(host), *report.findings)


def test_every_gpu_is_judged_as_it_should_be(
    description: Description, reports: Mapping[str, GpuReport]
) -> None:
    due = {address: one.verdict for address, one in description.expect.items()}
    assert {address: one.verdict.value for address, one in reports.items()} == due


def test_nothing_about_the_machine_is_unreadable(host: Host) -> None:
    assert host.problems == ()


def test_a_description_names_codes_that_exist(description: Description) -> None:
    assert description.because.strip() and description.title
    for expected in description.expect.values():
        assert expected.codes | expected.not_codes <= KNOWN
        assert not expected.codes & expected.not_codes
