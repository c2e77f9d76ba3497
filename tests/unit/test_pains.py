"""How first boots fail: every row against what apt, dpkg, DKMS and gcc printed when it happened."""

import re
from pathlib import Path

import pytest

from tests.unit import fixtures
from vfio_kit.analysis.guest.culprits import diagnose, find_pain
from vfio_kit.analysis.guest.first_boot import Provision, Record
from vfio_kit.knowledge.pains import PAINS, Pain
from vfio_kit.knowledge.provision_steps import PROVISION_STEPS

FIXTURES = sorted((fixtures.FIXTURES / "first-boot").glob("*.txt"))

# Texts of kernels with Secure Boot, which no machine here has: kernel/module/signing.c and
# security/lockdown/lockdown.c of Linux 6.1, and strerror(3) as kmod's modprobe prints it.
SECURE_BOOT = (
    "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service",
    "modprobe: ERROR: could not insert 'nvidia': Required key not available",
    "[   12.3] Loading of unsigned module is rejected",
    "[   12.3] Lockdown: modprobe: unsigned module loading is restricted; see kernel_lockdown.7",
)


def slug(pain: Pain) -> str:
    return pain.name.lower().replace(" ", "-")


@pytest.mark.parametrize("file", FIXTURES, ids=lambda file: file.stem)
def test_a_failure_is_named(file: Path) -> None:
    found = find_pain(file.read_text())
    assert found is not None
    assert slug(found[0]) == file.name.split(".")[0]


@pytest.mark.parametrize("pain", PAINS, ids=slug)
def test_every_row_has_a_failure_or_a_step(pain: Pain) -> None:
    mine = [file for file in FIXTURES if file.name.split(".")[0] == slug(pain)]
    known = {step.code for step in PROVISION_STEPS}
    assert mine or pain.steps or pain.name == "Secure Boot"
    assert set(pain.steps) <= known
    assert pain.meaning and pain.remedy


@pytest.mark.parametrize("text", SECURE_BOOT)
def test_secure_boot(text: str) -> None:
    found = find_pain(text)
    assert found is not None and found[0].name == "Secure Boot"


@pytest.mark.parametrize(
    "text",
    [
        "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by "
        "process 1797 (unattended-upgr)...",
        "[   12.3] nvidia: module verification failed: signature and/or required key missing - "
        "tainting kernel",
        "Setting up nvidia-dkms-470 (470.256.02-0ubuntu1) ...",
        "",
    ],
)
def test_what_also_stands_in_the_logs_of_success_is_no_pain(text: str) -> None:
    assert find_pain(text) is None


def failed(step: str, reason: str = "") -> Provision:
    return Provision("failed", step, reason=reason)


def test_the_log_that_the_state_file_names_comes_first() -> None:
    dkms = Record(
        "/var/lib/dkms/x/1/build/make.log", fixtures.text("first-boot/dkms-build-failed.make.txt")
    )
    apt = Record("/var/log/apt/term.log", fixtures.text("first-boot/disk-full.unpack.txt"))
    assert diagnose(failed("driver"), [dkms, apt]).pain == "DKMS build failed"
    assert diagnose(failed("driver"), [apt, dkms]).pain == "disk full"


def test_the_lines_around_the_culprit_are_shown() -> None:
    text = "\n".join(f"line {n}" for n in range(50))
    text += "\nbroken.c:2:10: fatal error: drm/drmP.h: No such file or directory\n" + "after\n" * 9
    found = diagnose(None, [Record("make.log", text)])
    assert found.lines[0] == "line 41"
    assert found.lines[-3:] == (
        "broken.c:2:10: fatal error: drm/drmP.h: No such file or directory",
        "after",
        "after",
    )


@pytest.mark.parametrize("step", PROVISION_STEPS, ids=lambda step: step.code)
def test_a_step_that_fails_without_a_known_text_has_its_own_remedy(step: object) -> None:
    code = getattr(step, "code", "")
    found = diagnose(failed(code, "no reason that a table knows"), [Record("log", "a\nb")])
    assert found.meaning and found.remedy
    assert (found.log, found.lines) == ("log", ("a", "b"))


def test_the_driver_that_another_one_replaced() -> None:
    reason = "driver 535.183.01 was installed, 470.x was asked for"
    assert diagnose(failed("assert-driver", reason), []).pain == "driver was replaced"


def test_the_reason_of_the_script_may_name_the_pain() -> None:
    reason = "the key of cuda-ubuntu2004 has the fingerprint ABCD, not EB69"
    assert diagnose(failed("cuda", reason), [Record("log", "nothing")]).pain == "key fingerprint"


def test_without_logs_and_without_a_state_nothing_is_made_up() -> None:
    found = diagnose(None, [])
    assert (found.pain, found.meaning, found.log, found.lines) == ("", "", "", ())


def test_lines_are_fit_for_a_terminal() -> None:
    (line,) = diagnose(None, [Record("log", "\x1b]0;title\x07\tx")]).lines
    assert re.fullmatch(r"[^\x00-\x1f\x7f]*", line)
