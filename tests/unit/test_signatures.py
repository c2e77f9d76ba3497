"""Every known failure has a text that shows it, and is recognised by it."""

import re

import pytest

from tests.unit.fixtures import FIXTURES, healthy, result
from tests.unit.values import said
from vfio_kit.analysis.guest.classify import classify
from vfio_kit.analysis.guest.kernel_log import parse_kernel_log
from vfio_kit.analysis.guest.ladder.log import log_check
from vfio_kit.analysis.guest.verification import judge_guest
from vfio_kit.knowledge.rungs import RUNGS
from vfio_kit.knowledge.signatures import SIGNATURES, XIDS, Signature, Xid
from vfio_kit.model.health import Check, CheckStatus, CommandResult, VerifyReport

ROWS: tuple[Signature | Xid, ...] = (*SIGNATURES, *XIDS)
TOOLS = tuple(row for row in SIGNATURES if row.probe != "kernel-log")
KERNEL_LOG = tuple(row for row in SIGNATURES if row.probe == "kernel-log")


def fixture_of(row: Signature | Xid) -> str:
    """The file that shows this row: by its text, or by its exit status alone."""
    if isinstance(row, Xid):
        return f"kernel-log/{row.cause}.text.txt"
    return f"{row.probe}/{row.cause}.{'text' if row.text else row.exit_status}.txt"


def rung(report: VerifyReport, code: str) -> Check:
    (found,) = [check for check in report.checks if check.code == code]
    return found


def judged(code: str, shown: CommandResult) -> VerifyReport:
    return judge_guest("vm", healthy() | {code: shown})


@pytest.mark.parametrize("row", TOOLS, ids=fixture_of)
def test_a_tools_failure_is_recognised_by_its_own_words(row: Signature) -> None:
    shown = result(fixture_of(row))
    assert classify(row.probe, shown) is row
    report = judged(row.probe, shown)
    found = rung(report, row.probe)
    assert (found.status, found.cause, found.remedy) == (row.status, row.cause, row.remedy)
    assert found.evidence.startswith(f"{row.meaning} (exit {shown.exit_status}")
    assert report.healthy == (row.status is CheckStatus.WARN)


@pytest.mark.parametrize("row", (*KERNEL_LOG, *XIDS), ids=fixture_of)
def test_a_line_of_the_kernel_log_is_recognised(row: Signature | Xid) -> None:
    shown = result(fixture_of(row))
    (event,) = parse_kernel_log(shown.stdout).events
    assert (event.cause, event.status, event.count) == (row.cause, row.status, 1)
    assert event.seconds is not None
    found = log_check(parse_kernel_log(shown.stdout))
    assert (found.status, found.cause) == (
        row.status,
        None if row.status is CheckStatus.OK else row.cause,
    )
    assert row.meaning in found.evidence


@pytest.mark.parametrize("row", KERNEL_LOG, ids=fixture_of)
def test_what_no_longer_keeps_a_guest_from_its_work_is_a_warning(row: Signature) -> None:
    report = judged("kernel-log", result(fixture_of(row)))
    found = rung(report, "kernel-log")
    past = row.lasts is not None
    assert found.status is (CheckStatus.WARN if past else row.status)
    assert ("past: " in found.evidence, found.remedy.startswith("nothing: ")) == (past, past)
    assert report.healthy is (found.status is not CheckStatus.FAILED)
    if past:
        assert row.lasts in {one.code for one in RUNGS}
        down = healthy() | {"kernel-log": result(fixture_of(row)), "module": said("kernel 6.1\n")}
        down |= {"pci": said(down["pci"].stdout.replace("driver nvidia\n", ""))}
        down |= {"nvidia-smi": result("nvidia-smi/driver-not-loaded.9.txt")}
        found = rung(judge_guest("vm", down), "kernel-log")
        assert (found.status, found.cause) == (row.status, row.cause)


def test_every_fixture_shows_a_row() -> None:
    files = {
        f"{probe}/{path.name}"
        for probe in ("nvidia-smi", "device-query", "burn", "kernel-log")
        for path in (FIXTURES / probe).iterdir()
    }
    assert files == {fixture_of(row) for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=fixture_of)
def test_a_row_says_what_it_means_and_what_to_do(row: Signature | Xid) -> None:
    assert row.meaning and row.remedy
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row.cause)
    if isinstance(row, Signature):
        assert (row.text is None) != (row.exit_status is None)


# The strings that nvidia.ko, nvidia-smi and CUDA's samples print, as they were found in them.
STRINGS = {
    "nvidia-smi": (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.",
        "Failed to initialize NVML: Driver/library version mismatch",
        "No devices were found",
        "Unable to determine the device handle for GPU 0000:01:00.0: Unknown Error",
        "Unable to determine the device handle for gpu 0000:01:00.0: Unknown Error",
        "Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.  Reboot the "
        "system to recover this GPU",
        "ERR!",
    ),
    "device-query": ("cudaGetDeviceCount returned 35", "cudaGetDeviceCount returned 100"),
    "kernel-log": (
        "NVRM: GPU 0000:01:00.0: RmInitAdapter failed! (0x26:0xffff:1290)",
        "NVRM: Xid (PCI:0000:01:00): 79, pid=0, GPU has fallen off the bus.",
        "NVRM: This PCI I/O region assigned to your NVIDIA device is invalid:",
        "NVRM: BAR0 is 0M @ 0x0 (PCI:0000:01:00.0)",
        "NVRM: The NVIDIA probe routine failed for 1 device(s).",
        "NVRM: None of the NVIDIA devices were initialized.",
        "NVRM: installed in this system is not supported by the open kernel module",
    ),
}


@pytest.mark.parametrize(
    ("code", "words"), [(code, words) for code, many in STRINGS.items() for words in many]
)
def test_no_failure_passes_without_a_name(code: str, words: str) -> None:
    if code == "kernel-log":
        assert len(parse_kernel_log(f"from dmesg\n[    1.000000] {words}\n").events) == 1
    else:
        assert classify(code, said(words, 1)) is not None


def test_a_text_says_more_than_an_exit_status() -> None:
    found = classify("nvidia-smi", said("… GPU is lost …", 9))
    assert found is not None and found.cause == "gpu-lost"


def test_words_of_one_tool_are_no_words_of_another() -> None:
    assert classify("device-query", said("No devices were found", 6)) is None


@pytest.mark.parametrize("card", ["m4000", "k80"])
@pytest.mark.parametrize("code", ["nvidia-smi", "device-query"])
def test_success_shows_no_failure(card: str, code: str) -> None:
    assert classify(code, healthy(card)[code]) is None
