"""`verify --junit`: what the readers of JUnit's XML find in it."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import timedelta, timezone
from typing import Any

import junitparser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.verified import WHEN, broken, silent, sound
from vfio_kit.cli.verify_junit import junit_xml
from vfio_kit.knowledge.rungs import RUNGS
from vfio_kit.model.health import Check, CheckStatus, VerifyReport


def parsed(*reports: VerifyReport) -> list[junitparser.TestSuite]:
    root = junitparser.JUnitXml.fromstring(junit_xml(reports, WHEN).encode())
    assert isinstance(root, junitparser.JUnitXml)
    return list(root)


def outcome(suite: junitparser.TestSuite, code: str) -> Any:
    """What a case's first result is; None where it passed."""
    (case,) = [case for case in suite if case.name == code]
    return case.result[0] if case.result else None


def test_a_suite_for_each_host_and_a_case_for_each_rung() -> None:
    suites = parsed(sound(), broken(), silent())
    assert [suite.name for suite in suites] == ["m4000", "broken", "silent"]
    for suite in suites:
        assert [case.name for case in suite] == [rung.code for rung in RUNGS]
        assert suite.tests == len(RUNGS)
    assert (suites[0].hostname, suites[0].timestamp) == ("m4000", "2026-03-01T02:59:58")
    assert suites[0].time == 2.125


def test_a_healthy_guest_has_neither_failures_nor_errors() -> None:
    (suite,) = parsed(sound())
    assert (suite.failures, suite.errors) == (0, 0)
    assert outcome(suite, "nvidia-smi") is None
    assert isinstance(outcome(suite, "burn"), junitparser.Skipped)
    (ssh, *_rest) = suite
    assert ssh.system_out == "ok: the host key is the known one"


def test_a_failure_has_its_cause_evidence_and_remedy() -> None:
    (suite,) = parsed(broken())
    assert (suite.failures > 0, suite.errors) == (True, 0)
    failure = outcome(suite, "nvidia-smi")
    assert isinstance(failure, junitparser.Failure)
    assert failure.type == "driver-not-loaded"
    assert failure.message and failure.message in failure.text
    (check,) = [check for check in broken().checks if check.code == "nvidia-smi"]
    assert failure.text == f"{check.evidence}\n{check.remedy}"


def test_what_was_not_run_is_skipped_and_says_why() -> None:
    (suite,) = parsed(broken())
    skipped = outcome(suite, "gpu-state")
    assert isinstance(skipped, junitparser.Skipped)
    assert skipped.message.startswith("not-run: because of nvidia-smi: ")


def test_a_guest_that_could_not_be_checked_is_an_error_and_no_failure() -> None:
    (suite,) = parsed(silent())
    assert (suite.failures, suite.errors, suite.skipped) == (0, 1, len(RUNGS) - 1)
    assert isinstance(outcome(suite, "ssh"), junitparser.Error)


def test_no_unhealthy_guest_passes() -> None:
    """Also where no rung has failed: one that was not run counts then."""
    odd = (Check("ssh", CheckStatus.OK, ""), Check("pci", CheckStatus.NOT_RUN, "was not asked"))
    report = VerifyReport("odd", (), odd)
    assert not report.healthy
    assert parsed(report)[0].failures == 1


def test_a_warning_passes_and_is_told() -> None:
    warned = (Check("link", CheckStatus.WARN, "x8 of x16", "seat it", "narrow-link"),)
    (suite,) = parsed(VerifyReport("vm", sound().gpus, warned))
    (case,) = suite
    assert (suite.failures, case.system_out) == (0, "warn: x8 of x16\nseat it")


def test_the_sums_of_all() -> None:
    root = ET.fromstring(junit_xml([sound(), broken(), silent()], WHEN))
    suites = root.findall("testsuite")
    for key in ("tests", "failures", "errors"):
        assert int(root.attrib[key]) == sum(int(suite.attrib[key]) for suite in suites)


def test_times_are_in_utc() -> None:
    cet = WHEN.astimezone(timezone(timedelta(hours=1)))
    assert junit_xml([sound()], cet) == junit_xml([sound()], WHEN)


def test_an_address_is_no_package() -> None:
    (suite,) = parsed(sound("root@10.0.0.7:2222"))
    assert {case.classname for case in suite} == {"vfio-kit.root@10_0_0_7:2222"}


@given(st.text(st.characters(codec=None), max_size=30))
def test_whatever_a_guest_says_it_stays_xml(said: str) -> None:
    check = Check("pci", CheckStatus.FAILED, said, said, said)
    report = replace(sound(said), checks=(check,))
    text = junit_xml([report], WHEN)
    ET.fromstring(text.encode("utf-8"))


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x08", "\ud800", "\uffff"])
def test_what_xml_cannot_write_is_replaced(character: str) -> None:
    text = junit_xml([sound(f"a{character}b")], WHEN)
    assert 'name="a\ufffdb"' in text
