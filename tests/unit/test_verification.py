"""From what a guest's tools printed to a verdict; whatever they print, there is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fixtures import FIXTURES, result, text
from tests.unit.values import said
from vfio_kit.analysis.guest.verification import CHECKS, classify, judge_guest, unreachable
from vfio_kit.guest.probe import COMMANDS, TIMED_OUT
from vfio_kit.knowledge.signatures import SIGNATURES, Signature
from vfio_kit.model.health import Check, CheckStatus, CommandResult, GpuHealth, VerifyReport

OK, FAILED = CheckStatus.OK, CheckStatus.FAILED

PCI_M4000 = said("0000:01:00.0 0x10de 0x13f1 0x030000\n0000:01:00.1 0x10de 0x0fbb 0x040300\n")
PCI_K80 = said("0000:01:00.0 0x10de 0x102d 0x030200\n0000:02:00.0 0x10de 0x102d 0x030200\n")
SMI_M4000, SMI_K80 = said(text("healthy/m4000-smi.xml")), said(text("healthy/k80-smi.xml"))
QUERY_M4000 = said(text("healthy/m4000-device-query.txt"))
QUERY_K80 = said(text("healthy/k80-device-query.txt"))


def judged(
    pci: CommandResult = PCI_M4000,
    smi: CommandResult = SMI_M4000,
    query: CommandResult = QUERY_M4000,
) -> VerifyReport:
    return judge_guest("vm", {"pci-functions": pci, "nvidia-smi": smi, "device-query": query})


def check(report: VerifyReport, code: str) -> Check:
    (found,) = [check for check in report.checks if check.code == code]
    return found


def test_a_healthy_m4000() -> None:
    report = judged()
    assert report.healthy
    assert report.gpus == (
        GpuHealth(
            "Quadro M4000", "470.256.02", "11.4", 8126, "5.2", "PASS", bus_id="00000000:01:00.0"
        ),
    )
    assert [(c.code, c.status, c.evidence) for c in report.checks] == [
        ("ssh", OK, "the host key is the known one"),
        ("pci-functions", OK, "GPUs: 0000:01:00.0 [10de:13f1]"),
        ("nvidia-smi", OK, "driver 470.256.02, CUDA 11.4: Quadro M4000"),
        ("device-query", OK, "Result = PASS: Quadro M4000 CC 5.2"),
    ]


def test_a_healthy_k80_is_two_gpus() -> None:
    report = judged(PCI_K80, SMI_K80, QUERY_K80)
    assert report.healthy
    assert [(g.name, g.compute_capability, g.memory_mib) for g in report.gpus] == [
        ("Tesla K80", "3.7", 11441),
        ("Tesla K80", "3.7", 11441),
    ]
    assert check(report, "pci-functions").evidence == (
        "GPUs: 0000:01:00.0 [10de:102d], 0000:02:00.0 [10de:102d]"
    )


def test_every_probe_has_its_check_in_order() -> None:
    assert ("ssh", *COMMANDS) == CHECKS
    assert tuple(check.code for check in judged().checks) == CHECKS


def test_a_guest_that_ssh_does_not_reach() -> None:
    report = unreachable("vm", "no answer", "switch it on")
    assert not report.healthy
    assert report.gpus == ()
    assert [(c.code, c.status) for c in report.checks] == [
        ("ssh", FAILED),
        ("pci-functions", CheckStatus.NOT_RUN),
        ("nvidia-smi", CheckStatus.NOT_RUN),
        ("device-query", CheckStatus.NOT_RUN),
    ]
    assert (report.checks[0].evidence, report.checks[0].remedy) == ("no answer", "switch it on")


def fixture_of(row: Signature) -> str:
    """The file that shows this row: by its text, or by its exit status alone."""
    return f"{row.probe}/{row.cause}.{'text' if row.text else row.exit_status}.txt"


@pytest.mark.parametrize("row", SIGNATURES, ids=fixture_of)
def test_every_known_failure_is_recognised_by_the_tools_own_words(row: Signature) -> None:
    shown = result(fixture_of(row))
    assert classify(row.probe, shown) is row
    report = judged(**{"smi" if row.probe == "nvidia-smi" else "query": shown})
    found = check(report, row.probe)
    assert not report.healthy
    assert (found.status, found.cause, found.remedy) == (FAILED, row.cause, row.remedy)
    assert found.evidence.startswith(f"{row.meaning} (exit {shown.exit_status}: ")


def test_every_fixture_shows_a_row() -> None:
    files = {
        f"{probe}/{path.name}"
        for probe in ("nvidia-smi", "device-query")
        for path in (FIXTURES / probe).iterdir()
    }
    assert files == {fixture_of(row) for row in SIGNATURES}


@pytest.mark.parametrize("row", SIGNATURES, ids=fixture_of)
def test_a_row_says_what_it_means_and_what_to_do(row: Signature) -> None:
    assert row.probe in COMMANDS
    assert row.meaning and row.remedy
    assert (row.text is None) != (row.exit_status is None)


def test_a_text_says_more_than_an_exit_status() -> None:
    found = classify("nvidia-smi", said("… GPU is lost …", 9))
    assert found is not None and found.cause == "gpu-lost"


def test_words_of_one_tool_are_no_words_of_another() -> None:
    assert classify("device-query", said("No devices were found", 6)) is None


def test_success_shows_no_failure() -> None:
    assert classify("nvidia-smi", SMI_M4000) is None
    assert classify("device-query", QUERY_K80) is None


def test_evidence_is_the_line_that_matters() -> None:
    report = judged(
        smi=said("the reason\nadvice\nmore advice\n", 77), query=said("Starting\n\nwhat broke\n", 3)
    )
    assert check(report, "nvidia-smi").evidence == "exit 77: the reason"
    assert check(report, "device-query").evidence == "exit 3: what broke"
    assert {check(report, probe).cause for probe in ("nvidia-smi", "device-query")} == {"unknown"}


def test_a_failure_that_says_nothing() -> None:
    assert check(judged(smi=said("", 77)), "nvidia-smi").evidence == "exit 77: "


def test_a_tool_that_speaks_on_stderr_is_heard() -> None:
    found = check(judged(query=said("", 1, "segmentation fault\n")), "device-query")
    assert found.evidence == "exit 1: segmentation fault"


def test_a_log_that_cannot_be_read() -> None:
    found = check(judged(smi=said("<html/>")), "nvidia-smi")
    assert (found.status, found.cause) == (FAILED, "unreadable")


def test_a_log_without_gpus() -> None:
    log = said("<nvidia_smi_log><driver_version>470.256.02</driver_version></nvidia_smi_log>")
    report = judged(smi=log)
    found = check(report, "nvidia-smi")
    assert (found.status, found.cause) == (FAILED, "no-devices")
    assert found.evidence == "driver 470.256.02 lists no GPU"
    assert not report.healthy


@pytest.mark.parametrize(
    ("pci", "evidence"),
    [
        (said(""), "the guest has no display controller at all"),
        (
            said("0000:01:00.1 0x10de 0x0fbb 0x040300\n"),
            "the guest has no display controller at all",
        ),
    ],
)
def test_a_guest_without_any_gpu(pci: CommandResult, evidence: str) -> None:
    report = judged(pci=pci)
    found = check(report, "pci-functions")
    assert (found.status, found.cause, found.evidence) == (FAILED, "no-gpu", evidence)
    assert not report.healthy


@pytest.mark.parametrize(
    ("pci", "evidence"),
    [
        (said("", 1, "sh: for: not found\n"), "exit 1: sh: for: not found"),
        (
            said("0000:01:00.0 0x10de 0x13f1 0x030000\n", 124, "no end within 60 s"),
            "exit 124: no end within 60 s",
        ),
    ],
)
def test_a_function_list_that_broke_off(pci: CommandResult, evidence: str) -> None:
    found = check(judged(pci=pci), "pci-functions")
    assert (found.status, found.cause, found.evidence) == (FAILED, "unknown", evidence)


@pytest.mark.parametrize(
    ("query", "cause", "evidence"),
    [
        (said("Result = FAIL\n"), "unknown", "Result = FAIL"),
        (said("Detected 1 CUDA Capable device(s)\n"), "unknown", "no Result line"),
        (said(""), "unknown", "no Result line"),
        (said("Result = PASS\n"), "fewer-devices", "CUDA sees 0 of the 1 GPUs of nvidia-smi"),
    ],
)
def test_a_device_query_that_did_not_pass(query: CommandResult, cause: str, evidence: str) -> None:
    report = judged(query=query)
    found = check(report, "device-query")
    assert (found.status, found.cause, found.evidence) == (FAILED, cause, evidence)
    assert not report.healthy


def test_one_gpu_of_two_is_not_enough() -> None:
    report = judged(PCI_K80, SMI_K80, QUERY_M4000)
    assert check(report, "device-query").evidence == "CUDA sees 1 of the 2 GPUs of nvidia-smi"
    assert not report.healthy


def test_cuda_alone_still_describes_the_gpu() -> None:
    report = judged(smi=said("", 127, "nvidia-smi: command not found"))
    assert report.gpus == (GpuHealth("Quadro M4000", None, None, 8127, "5.2", "PASS"),)
    assert not report.healthy


def test_without_any_tool_there_is_no_gpu_to_describe() -> None:
    report = judged(smi=said("", 127), query=said("", 127))
    assert report.gpus == ()


TWO_CARDS = """<nvidia_smi_log><driver_version>470.256.02</driver_version>
<gpu id="{}"><product_name>Quadro M4000</product_name></gpu>
<gpu id="{}"><product_name>Tesla K80</product_name></gpu></nvidia_smi_log>"""
TWO_DEVICES = """Device 0: "Tesla K80"
  CUDA Capability Major/Minor version number:    3.7
{}
Device 1: "Quadro M4000"
  CUDA Capability Major/Minor version number:    5.2
{}
Result = PASS
"""
PLACE = "  Device PCI Domain ID / Bus ID / location ID:   0 / {} / 0"


def capabilities(smi: str, query: str) -> dict[str | None, str | None]:
    report = judged(PCI_K80, said(smi), said(query))
    return {gpu.name: gpu.compute_capability for gpu in report.gpus}


def test_devices_are_matched_by_where_they_sit_not_by_their_number() -> None:
    smi = TWO_CARDS.format("00000000:01:00.0", "00000000:0A:00.0")
    # CUDA puts the fastest first and writes bus numbers in decimal.
    query = TWO_DEVICES.format(PLACE.format(10), PLACE.format(1))
    assert capabilities(smi, query) == {"Quadro M4000": "5.2", "Tesla K80": "3.7"}


def test_devices_of_no_known_place_are_matched_by_order() -> None:
    smi = TWO_CARDS.format("N/A", "N/A")
    assert capabilities(smi, TWO_DEVICES.format("", "")) == {
        "Quadro M4000": "3.7",
        "Tesla K80": "5.2",
    }


def test_a_device_at_another_place_is_another_device() -> None:
    smi = TWO_CARDS.format("00000000:01:00.0", "00000000:02:00.0")
    query = TWO_DEVICES.format(PLACE.format(8), PLACE.format(9))
    report = judged(PCI_K80, said(smi), said(query))
    assert [(g.compute_capability, g.device_query) for g in report.gpus] == [(None, None)] * 2


# Whatever a guest says, the report has its four checks and no exception ends it.

_exit_codes = st.sampled_from([0, 0, 0, 1, 4, 6, TIMED_OUT, 127, 255]) | st.integers(0, 255)
_pieces = st.lists(
    st.sampled_from(
        [
            "\n",
            "<nvidia_smi_log>",
            "</nvidia_smi_log>",
            '<gpu id="00000000:01:00.0">',
            "</gpu>",
            'Device 0: "Tesla K80"',
            "Result = PASS",
            "Result = FAIL",
            PLACE.format(1),
            "GPU is lost",
            "0x10de",
            "No devices were found",
            text("healthy/m4000-smi.xml"),
            text("healthy/k80-device-query.txt"),
        ]
    )
    | st.text(max_size=20),
    max_size=6,
).map("".join)
_results = st.builds(CommandResult, _exit_codes, _pieces, st.text(max_size=20))


@given(smi=_results, query=_results)
def test_nothing_that_the_tools_say_ends_in_an_exception(
    smi: CommandResult, query: CommandResult
) -> None:
    report = judged(PCI_M4000, smi, query)
    assert tuple(check.code for check in report.checks) == CHECKS
    for found in report.checks:
        assert (found.status is FAILED) == (found.cause is not None)
    # Healthy means that both tools said so with exit status 0.
    if report.healthy:
        assert smi.exit_status == query.exit_status == 0
        assert "Result = PASS" in query.stdout


@given(_exit_codes, st.text())
def test_a_function_list_that_is_empty_is_a_failed_check(status: int, stderr: str) -> None:
    found = check(judged(pci=CommandResult(status, "", stderr)), "pci-functions")
    assert found.status is FAILED and found.evidence
