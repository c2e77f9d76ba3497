"""What the kernel log tells of a GPU, sorted and counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fixtures import healthy
from tests.unit.values import said
from vfio_kit.analysis.guest.kernel_log import KernelLog, parse_kernel_log
from vfio_kit.analysis.guest.ladder.log import log_check
from vfio_kit.analysis.guest.verification import judge_guest
from vfio_kit.model.health import Check, CheckStatus

XID = "NVRM: Xid (PCI:0000:01:00): {}, pid=0, words"


def log(*lines: str, source: str = "dmesg") -> KernelLog:
    return parse_kernel_log("\n".join((f"from {source}", *lines)))


def check(*lines: str) -> Check:
    return log_check(log(*lines))


def test_a_healthy_log_notes_what_does_no_harm() -> None:
    found = log_check(parse_kernel_log(healthy()["kernel-log"].stdout))
    assert (found.status, found.cause) == (CheckStatus.OK, None)
    assert found.evidence.startswith("no Xid, RmInitAdapter or AER error since boot; ")


@pytest.mark.parametrize("output", ["", "from nothing\n", "NVRM: Xid\n"])
def test_a_log_that_nobody_may_read_is_never_ok(output: str) -> None:
    found = log_check(parse_kernel_log(output))
    assert (found.status, found.cause) == (CheckStatus.WARN, "unreadable")
    assert "adm" in found.remedy


def test_a_probe_that_broke_off_is_told() -> None:
    report = judge_guest("vm", healthy(kernel_log=said("", 124, "no end within 60 s")))
    (found,) = [c for c in report.checks if c.code == "kernel-log"]
    assert (found.status, found.cause) == (CheckStatus.WARN, "timed-out")
    assert found.evidence == "no end within 60 s"
    assert "adm" not in found.remedy  # it is no question of rights


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        ("[   12.345678] ", 12.345678),
        ("[   12.345678] gpu-vm kernel: ", 12.345678),
        ("[   12.345678] kernel: ", 12.345678),
        ("[   12.345678][   T12] ", 12.345678),
        ("<3>[   12.345678] ", 12.345678),
        ("", None),
    ],
)
def test_a_line_begins_as_its_reader_wants(head: str, seconds: float | None) -> None:
    (event,) = log(head + XID.format(79)).events
    assert (event.cause, event.seconds) == ("xid-79", seconds)
    assert event.last == XID.format(79)


def test_events_are_counted_and_the_last_is_shown() -> None:
    found = check(
        "[    1.0] " + XID.format(31),
        "[    2.0] NVRM: GPU 0000:01:00.0: RmInitAdapter failed! (0x24:0x65:1423)",
        "[    3.0] " + XID.format(31),
        "[    4.6] NVRM: GPU 0000:01:00.0: RmInitAdapter failed! (0x24:0x65:1424)",
    )
    assert (found.status, found.cause) == (CheckStatus.FAILED, "rm-init-failed")
    assert found.evidence == (
        "the driver could not start the GPU, 2 times, last at 5 s: "
        "NVRM: GPU 0000:01:00.0: RmInitAdapter failed! (0x24:0x65:1424); "
        "GPU memory page fault, mostly an application's fault, 2 times, last at 3 s: "
        + XID.format(31)
    )


@pytest.mark.parametrize("number", [13, 31, 43, 45])
def test_an_applications_own_fault_is_a_warning(number: int) -> None:
    found = check(XID.format(number))
    assert (found.status, found.cause) == (CheckStatus.WARN, f"xid-{number}")


def test_an_unknown_xid_fails() -> None:
    found = check(XID.format(777))
    assert (found.status, found.cause) == (CheckStatus.FAILED, "xid-777")


@pytest.mark.parametrize(
    "words",
    [
        "Xid (PCI:0000:01:00 GPU-I:02): 63, pid=1, x",
        "Xid (PCI:0000:01:00 GPU-I:02 GPU-CI:01): 63, pid=1, x",
        "Xid (PCI:0000:01:00): 63, x",
        "Xid (0000:01:00): 63, x",
    ],
)
def test_the_forms_of_an_xid(words: str) -> None:
    assert [event.cause for event in log(f"NVRM: {words}").events] == ["xid-63"]


@pytest.mark.parametrize(
    ("severity", "cause"),
    [
        ("Corrected", "aer-corrected"),
        ("Correctable", "aer-corrected"),
        ("Uncorrected (Fatal)", "aer-uncorrected"),
        ("Uncorrectable (Non-Fatal)", "aer-uncorrected"),
    ],
)
def test_errors_of_the_link_by_the_words_of_old_and_new_kernels(severity: str, cause: str) -> None:
    line = f"pcieport 0000:00:01.0: PCIe Bus Error: severity={severity}, type=Physical Layer"
    assert check(line).cause == cause


def test_further_lines_of_a_message_have_its_time() -> None:
    found = log(
        "[  166.060533] kernel: NVRM: The NVIDIA GPU 0000:01:00.0 (PCI ID: 10de:13f1)",
        "                       NVRM: installed in this system is not supported by the",
    )
    (event,) = found.events
    assert (event.cause, event.seconds) == ("unsupported-gpu", 166.060533)
    assert event.last == "NVRM: installed in this system is not supported by the"


def test_more_than_three_kinds_are_named_in_short() -> None:
    found = check(*(XID.format(number) for number in (48, 62, 63, 64, 79)))
    assert found.evidence.endswith("; also xid-79, xid-63")


@given(st.text(), st.lists(st.sampled_from(["NVRM: Xid (PCI:0): ", "[ 1.0] ", "79,", "\x1b[31m"])))
def test_any_text_is_a_log(words: str, pieces: list[str]) -> None:
    found = log_check(parse_kernel_log("from dmesg\n" + "".join(pieces) + words))
    assert found.status in (CheckStatus.OK, CheckStatus.WARN, CheckStatus.FAILED)
