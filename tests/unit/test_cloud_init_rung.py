"""The rung of cloud-init, and of what vfio-kit has it do."""

import pytest

from tests.unit.fixtures import text
from tests.unit.test_verification import check, judged
from tests.unit.values import said
from vfio_kit.model.health import Check, CheckStatus

OK, WARN, FAILED = CheckStatus.OK, CheckStatus.WARN, CheckStatus.FAILED
SKIPPED, NOT_RUN = CheckStatus.SKIPPED, CheckStatus.NOT_RUN
SMI_M4000, SMI_K80 = text("healthy/m4000-smi.xml"), text("healthy/k80-smi.xml")
QUERY_M4000 = text("healthy/m4000-device-query.txt")


def cloud_init(status: str, provision: str = "") -> Check:
    return check(judged(cloud_init=said(status + provision)), "cloud-init")


@pytest.mark.parametrize(
    ("status", "expected", "cause", "evidence"),
    [
        ("absent", SKIPPED, None, "cloud-init is not installed"),
        ('{"status": "disabled", "errors": []}', SKIPPED, None, "status: disabled"),
        ('{"status": "not run", "errors": []}', SKIPPED, None, "status: not run"),
        ('{"status": "running", "errors": []}', FAILED, "running", "cloud-init is still at work"),
        ('{"status": "done", "errors": []}', OK, None, "status: done"),
        ('{"status": "error", "errors": ["a"]}', FAILED, "error", "status: error: a"),
        (
            '{"status": "error", "errors": ["a", "b", "c"]}',
            FAILED,
            "error",
            "status: error: a; b; and 1 more",
        ),
        (
            '{"status": "done", "errors": [], "recoverable_errors": {"WARNING": ["w"]}}',
            FAILED,
            "degraded",
            "status: done: WARNING: w",
        ),
        (
            '{"status": "done", "recoverable_errors": {"DEPRECATED": ["a", "b", "c"]}}',
            WARN,
            "deprecated",
            "status: done, and deprecated: a; b; and 1 more",
        ),
        (
            '{"status": "done", "recoverable_errors": {"DEPRECATED": ["a"], "ERROR": ["e"]}}',
            FAILED,
            "degraded",
            "status: done: ERROR: e",
        ),
        ("status: done\ntime: now\ndetail:\nDataSourceNone", OK, None, "status: done"),
        ("status: error\ndetail:\n('x', no)\n", FAILED, "error", "status: error: ('x', no)"),
        ("Traceback", FAILED, "unknown", "exit 0: Traceback"),
        ("", FAILED, "unknown", "exit 0: no answer"),
    ],
)
def test_cloud_init(status: str, expected: CheckStatus, cause: str | None, evidence: str) -> None:
    found = cloud_init(status)
    assert (found.status, found.cause, found.evidence) == (expected, cause, evidence)


@pytest.mark.parametrize(
    ("state", "expected", "cause", "evidence"),
    [
        ("state=done\nstep=done", OK, None, "status: done; provisioning: done"),
        ("state=running\nstep=dkms", FAILED, "running", "provisioning is still at work: dkms"),
        ("state=reboot\nstep=dkms", FAILED, "running", "provisioning is still at work: dkms"),
        (
            "state=failed\nstep=dkms\nreason=no headers\nlog=/var/log/x",
            FAILED,
            "provisioning-failed",
            "provisioning failed at dkms: no headers",
        ),
        (
            "garbage=1",
            FAILED,
            "provisioning-failed",
            "provisioning in no known state at an unknown step: no reason given",
        ),
    ],
)
def test_what_vfio_kit_has_cloud_init_do_is_part_of_it(
    state: str, expected: CheckStatus, cause: str | None, evidence: str
) -> None:
    found = cloud_init('{"status": "done", "errors": []}\n', f"--- provision\n{state}\n")
    assert (found.status, found.cause, found.evidence) == (expected, cause, evidence)


def test_a_provisioning_that_is_done_takes_no_warning_away() -> None:
    status = '{"status": "done", "recoverable_errors": {"DEPRECATED": ["a"]}}\n'
    found = cloud_init(status, "--- provision\nstate=done\n")
    assert (found.status, found.cause) == (WARN, "deprecated")
    assert found.evidence == "status: done, and deprecated: a; provisioning: done"
    assert cloud_init("absent\n", "--- provision\nstate=done\n").status is OK


def test_the_steps_own_remedy_and_the_culprits_name() -> None:
    state = "--- provision\nstate=failed\nstep=preflight\nculprit=/var/log/y\nlog=/var/log/x\n"
    found = cloud_init('{"status": "error", "errors": ["script failed"]}\n', state)
    assert found.cause == "provisioning-failed"
    assert "Secure Boot" in found.remedy and "sudo tail /var/log/y" in found.remedy
