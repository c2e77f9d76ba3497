"""Machines of many kinds, each against the verdicts that an expert's reasoning gives it.

tests/hosts/README.md says how to add one.
"""

import gzip
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.hosts.load import DESCRIPTIONS, Description, load
from tests.machines import write_machine
from vfio_kit.analysis.isolation import host_findings, judge
from vfio_kit.host.machine import names_of, read_machine
from vfio_kit.host.snapshot.take import take_snapshot
from vfio_kit.host.tree import Tree
from vfio_kit.knowledge.findings import FINDING_KINDS
from vfio_kit.model import GpuReport, Host, Level

REASONS = {"VK105", "VK106", "VK107"}
PRIVATE = (b"vg0", b"_crypt", b"00112233445566778899aabbccddeeff", b"010200C0", b"rpool")
"""What the descriptions hold of names and addresses that are nobody else's business."""
LEVELS = {kind.code: kind.level for kind in FINDING_KINDS}


@dataclass(frozen=True)
class Judged:
    """A description, and what vfio-kit makes of the machine."""

    description: Description
    host: Host
    snapshot: bytes
    elsewhere: Host
    """The host as its snapshot gives it."""
    reports: Mapping[str, GpuReport]

    def codes(self, address: str) -> set[str]:
        """All that is found on a GPU, and on the host that it is in."""
        found = (*host_findings(self.host), *self.reports[address].findings)
        return {finding.code for finding in found}


@cache
def judged(path: Path) -> Judged:
    description = load(path)
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        root = write_machine(Path(folder) / "root", description.machine)
        host = read_machine(root)
        snapshot = Path(folder) / "snapshot.tar.gz"
        snapshot.write_bytes(take_snapshot(root, names_of(Tree(root))))
        elsewhere = read_machine(snapshot)
        data = snapshot.read_bytes()
    reports = {str(report.gpu.address): report for report in judge(host)}
    return Judged(description, host, data, elsewhere, reports)


# Of the module: so all tests of a machine follow each other, and it is written and read once.
@pytest.fixture(scope="module", params=DESCRIPTIONS, ids=lambda path: str(path.stem))
def case(request: pytest.FixtureRequest) -> Judged:
    return judged(request.param)


def test_every_gpu_is_judged_as_it_should_be(case: Judged) -> None:
    due = {address: one.verdict for address, one in case.description.expect.items()}
    assert {address: one.verdict.value for address, one in case.reports.items()} == due


def test_nothing_about_the_machine_is_unreadable(case: Judged) -> None:
    assert case.host.problems == ()
    assert not {"VK104", "VK501"} & {code for at in case.reports for code in case.codes(at)}


def test_a_snapshot_tells_the_same_and_nothing_private(case: Judged) -> None:
    assert case.elsewhere == case.host
    unpacked = gzip.decompress(case.snapshot)
    assert not [word for word in PRIVATE if word in unpacked]


def test_a_description_is_consistent(case: Judged) -> None:
    assert case.description.because.strip() and case.description.title
    for expected in case.description.expect.values():
        assert expected.codes | expected.not_codes <= LEVELS.keys()
        assert not expected.codes & expected.not_codes
        blocked = any(LEVELS[code] is Level.BLOCK for code in expected.codes)
        assert not (expected.can_go and (blocked or expected.verdict != "isolated"))


def test_a_gpu_can_go_if_and_only_if_it_should(case: Judged) -> None:
    due = {address: one.can_go for address, one in case.description.expect.items()}
    assert {address: one.can_go for address, one in case.reports.items()} == due


def test_what_must_be_found_is_found_and_nothing_that_must_not(case: Judged) -> None:
    for address, expected in case.description.expect.items():
        codes = case.codes(address)
        assert expected.codes <= codes, (address, sorted(expected.codes - codes))
        assert not expected.not_codes & codes, (address, sorted(expected.not_codes & codes))


def test_the_reason_of_a_shared_group_is_named(case: Judged) -> None:
    """A device of the slot that is to blame; which of its functions is named does not matter."""
    for address, expected in case.description.expect.items():
        named = {
            str(finding.device).rpartition(".")[0]
            for finding in case.reports[address].findings
            if finding.code in REASONS
        }
        assert {culprit.rpartition(".")[0] for culprit in expected.culprits} <= named
