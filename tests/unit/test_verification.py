"""From what a guest's tools printed to a verdict; whatever they print, there is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fixtures import healthy, result, text
from tests.unit.values import said
from vfio_kit.analysis.guest.verification import (
    NOT_PLANNED,
    judge_guest,
    unreachable,
)
from vfio_kit.guest.probe import BURN, COMMANDS, TIMED_OUT
from vfio_kit.knowledge.rungs import RUNGS
from vfio_kit.model.health import (
    Check,
    CheckStatus,
    CommandResult,
    GpuHealth,
    LinkHealth,
    Planned,
    VerifyReport,
)

OK, WARN, FAILED = CheckStatus.OK, CheckStatus.WARN, CheckStatus.FAILED
SKIPPED, NOT_RUN = CheckStatus.SKIPPED, CheckStatus.NOT_RUN
CODES = tuple(rung.code for rung in RUNGS)

M4000 = Planned(("10de:13f1", "10de:0fbb"), 1, "470")
K80 = Planned(("10de:102d", "10de:102d"), 2, "470")
SMI_M4000, SMI_K80 = text("healthy/m4000-smi.xml"), text("healthy/k80-smi.xml")
QUERY_M4000 = text("healthy/m4000-device-query.txt")


def judged(
    card: str = "m4000", planned: Planned = NOT_PLANNED, **other: CommandResult | None
) -> VerifyReport:
    """The report on a healthy guest, but for the results of some probes."""
    return judge_guest("vm", healthy(card, **other), planned)


def check(report: VerifyReport, code: str) -> Check:
    (found,) = [check for check in report.checks if check.code == code]
    return found


# The whole


def test_a_healthy_m4000() -> None:
    report = judged(planned=M4000)
    assert report.healthy
    assert report.gpus == (
        GpuHealth(
            name="Quadro M4000",
            driver="470.256.02",
            cuda="11.4",
            memory_mib=8126,
            compute_capability="5.2",
            device_query="PASS",
            bus_id="00000000:01:00.0",
            ids="10de:13f1",
            uuid="GPU-00000000-0000-0000-0000-0000000013f1",
            bar1_mib=256,
            link=LinkHealth(2.5, 16, 8.0, 16),
            temperature_c=34,
            persistence="Disabled",
        ),
    )
    assert [(c.code, c.status, c.evidence) for c in report.checks] == [
        ("ssh", OK, "the host key is the known one"),
        ("cloud-init", OK, "status: done; provisioning: done"),
        ("pci", OK, "GPUs: 0000:01:00.0 [10de:13f1]; with 0000:01:00.1 [10de:0fbb]"),
        (
            "link",
            OK,
            "0000:01:00.0: x16 at 2.5 GT/s of x16 at 8 GT/s (idle GPUs slow down their link)",
        ),
        ("bar1", OK, "0000:01:00.0: BAR 1 has 256 MiB"),
        ("module", OK, "nvidia 470.256.02 is loaded"),
        ("nvidia-smi", OK, "driver 470.256.02, CUDA 11.4: Quadro M4000 8126 MiB"),
        (
            "gpu-state",
            OK,
            "00000000:01:00.0: 34 °C, no ECC, persistence mode off, so that the first use takes "
            "longer",
        ),
        (
            "kernel-log",
            OK,
            "no Xid, RmInitAdapter or AER error since boot; the module is not signed, as those of "
            "DKMS; without Secure Boot it does no harm",
        ),
        ("device-query", OK, "Result = PASS: Quadro M4000 CC 5.2"),
        ("burn", SKIPPED, "nobody asked for it: --burn SECONDS"),
        ("expect", SKIPPED, "nothing is expected: --expect"),
    ]
    assert {(c.remedy, c.cause, c.explained_by) for c in report.checks} == {("", None, None)}


def test_a_healthy_k80_is_two_gpus() -> None:
    report = judged("k80", K80)
    assert report.healthy
    assert [(g.name, g.compute_capability, g.memory_mib, g.bar1_mib) for g in report.gpus] == [
        ("Tesla K80", "3.7", 11441, 16384),
        ("Tesla K80", "3.7", 11441, 16384),
    ]
    assert check(report, "pci").evidence == (
        "GPUs: 0000:01:00.0 [10de:102d], 0000:02:00.0 [10de:102d]"
    )


def test_every_probe_is_judged() -> None:
    assert set(COMMANDS) <= set(CODES)
    assert set(healthy()) == set(COMMANDS)


def test_a_guest_that_ssh_does_not_reach() -> None:
    report = unreachable("vm", "no answer", "switch it on")
    assert not report.healthy
    assert report.gpus == ()
    assert [(c.code, c.status) for c in report.checks] == [
        ("ssh", FAILED),
        *((code, NOT_RUN) for code in CODES[1:]),
    ]
    assert (report.checks[0].evidence, report.checks[0].remedy) == ("no answer", "switch it on")


@pytest.mark.parametrize("code", COMMANDS)
def test_a_rung_that_was_not_asked_is_not_run(code: str) -> None:
    report = judge_guest("vm", {c: r for c, r in healthy().items() if c != code})
    assert check(report, code).status is NOT_RUN
    assert not report.healthy


def test_checks_of_others_find_their_places() -> None:
    extra = (
        Check("expect", FAILED, "cc=9.0: 5.2"),
        Check("ssh", SKIPPED, "this machine itself"),
    )
    report = judge_guest("vm", healthy(), extra=extra)
    assert tuple(c.code for c in report.checks) == CODES
    assert (report.checks[0], report.checks[-1]) == (extra[1], extra[0])


# The first failing rung explains the ones above it


def explained(report: VerifyReport) -> dict[str, str]:
    return {c.code: c.explained_by for c in report.checks if c.explained_by}


def test_a_guest_without_its_gpu() -> None:
    report = judged(
        pci=said(""),
        module=said("kernel 5.15.0-119-generic\n"),
        nvidia_smi=result("nvidia-smi/driver-not-loaded.text.txt"),
        device_query=result("device-query/no-device.text.txt"),
    )
    assert explained(report) == dict.fromkeys(
        ("link", "bar1", "module", "nvidia-smi", "gpu-state", "device-query"), "pci"
    )
    assert check(report, "nvidia-smi").evidence.startswith("the NVIDIA kernel module is not loaded")


def test_a_module_that_is_not_loaded_explains_what_needs_it() -> None:
    report = judged(
        module=said("kernel 6.1\nfile updates/dkms/nvidia.ko 470.256.02\n"),
        nvidia_smi=result("nvidia-smi/driver-not-loaded.text.txt"),
        device_query=result("device-query/no-device.text.txt"),
    )
    assert explained(report) == dict.fromkeys(("nvidia-smi", "gpu-state", "device-query"), "module")


def test_what_holds_needs_no_explanation() -> None:
    report = judged(pci=said("", 1, "sh: cannot open"))
    assert explained(report) == {"link": "pci", "bar1": "pci"}
    assert check(report, "module").status is OK


def test_the_kernel_log_speaks_for_itself() -> None:
    report = judged(pci=said(""), kernel_log=result("kernel-log/xid-79.text.txt"))
    assert check(report, "kernel-log").explained_by is None


# Whatever a guest says, the report has its rungs and no exception ends it.

_exit_codes = st.sampled_from([0, 0, 0, 1, 4, 6, TIMED_OUT, 127, 255]) | st.integers(0, 255)
_pieces = st.lists(
    st.sampled_from(
        [
            "\n",
            "\x1b[2J\x9b\u202e",
            "<nvidia_smi_log>",
            "</nvidia_smi_log>",
            '<gpu id="00000000:01:00.0">',
            "<product_name>&#x9b;&#x202e;</product_name>",
            "</gpu>",
            'Device 0: "Tesla K80"',
            "Result = PASS",
            "Result = FAIL",
            "  Device PCI Domain ID / Bus ID / location ID:   0 / 1 / 0",
            "GPU is lost",
            "function 0000:01:00.0\nvendor 0x10de\ndevice 0x13f1\nclass 0x030000\n",
            "bar 0x0 0x",
            "max_link_width 16\ncurrent_link_width ",
            "kernel \x1b",
            "from dmesg\nNVRM: Xid (PCI:0): 79",
            '{"status": "\\u001b[2J", "errors": ["\\u009b"]}',
            "--- provision\nstate=\x07failed\n",
            "No devices were found",
            SMI_M4000,
            text("healthy/k80-device-query.txt"),
        ]
    )
    | st.text(max_size=20),
    max_size=6,
).map("".join)
_results = st.builds(CommandResult, _exit_codes, _pieces, _pieces)
_planned = st.builds(
    Planned,
    st.lists(st.sampled_from(["10de:13f1", "10de:0fbb"]), max_size=2).map(tuple),
    st.none() | st.integers(1, 2),
    st.none() | st.sampled_from(["470", "580"]),
)


@given(st.dictionaries(st.sampled_from([*COMMANDS, BURN]), _results), _planned)
def test_nothing_that_a_guest_says_ends_in_an_exception_or_reaches_a_terminal(
    other: dict[str, CommandResult], planned: Planned
) -> None:
    report = judge_guest("vm", healthy() | other, planned)
    assert tuple(check.code for check in report.checks) == CODES
    for found in report.checks:
        assert f"{found.evidence}{found.remedy}".isprintable() and found.evidence
        assert len(found.evidence) <= 400
        assert bool(found.remedy) == (found.status in (WARN, FAILED))
    for gpu in report.gpus:
        assert all(text.isprintable() for text in (gpu.name, gpu.driver, gpu.uuid) if text)
    # Healthy means that both tools said so with exit status 0.
    if report.healthy and {"nvidia-smi", "device-query"} <= other.keys():
        smi, query = other["nvidia-smi"], other["device-query"]
        assert smi.exit_status == query.exit_status == 0
        assert "Result = PASS" in query.stdout


@given(st.text(), st.text())
def test_a_guest_that_cannot_be_reached_tells_no_terminal_what_to_do(one: str, two: str) -> None:
    first = unreachable("vm", one, two).checks[0]
    assert f"{first.evidence}{first.remedy}".isprintable()
