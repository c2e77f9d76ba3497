"""From what a guest's tools printed to a verdict; whatever they print, there is one."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fixtures import healthy, result, text
from tests.unit.values import said
from vfio_kit.analysis.guest.verification import (
    NOT_PLANNED,
    judge_burn,
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

M4000 = Planned(("10de:13f1", "10de:0fbb"), 1, "470", "11.4")
K80 = Planned(("10de:102d", "10de:102d"), 2, "470", "11.4")
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


# cloud-init


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
        ("status: done\ntime: now\ndetail:\nDataSourceNone", OK, None, "status: done"),
        ("status: error\ndetail:\n('x', no)\n", FAILED, "error", "status: error: ('x', no)"),
        ("Traceback", FAILED, None, "exit 0: Traceback"),
        ("", FAILED, None, "exit 0: no answer"),
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


def test_the_steps_own_remedy_and_the_culprits_name() -> None:
    state = "--- provision\nstate=failed\nstep=preflight\nculprit=/var/log/y\nlog=/var/log/x\n"
    found = cloud_init('{"status": "error", "errors": ["script failed"]}\n', state)
    assert found.cause == "provisioning-failed"
    assert "Secure Boot" in found.remedy and "sudo tail /var/log/y" in found.remedy


# nvidia-smi and gpu-state


def test_evidence_is_the_line_that_matters() -> None:
    report = judged(
        nvidia_smi=said("the reason\nadvice\nmore advice\n", 77),
        device_query=said("Starting\n\nwhat broke\n", 3),
    )
    assert check(report, "nvidia-smi").evidence == "exit 77: the reason"
    assert check(report, "device-query").evidence == "exit 3: what broke"
    assert {check(report, code).cause for code in ("nvidia-smi", "device-query")} == {"unknown"}


def test_a_failure_that_says_nothing() -> None:
    assert check(judged(nvidia_smi=said("", 77)), "nvidia-smi").evidence == "exit 77:"


def test_a_tool_that_speaks_on_stderr_is_heard() -> None:
    found = check(judged(device_query=said("", 1, "segmentation fault\n")), "device-query")
    assert found.evidence == "exit 1: segmentation fault"


def test_the_kernel_log_says_why_there_is_no_device() -> None:
    found = check(
        judged(
            nvidia_smi=result("nvidia-smi/no-devices.text.txt"),
            kernel_log=result("kernel-log/rm-init-failed.text.txt"),
        ),
        "nvidia-smi",
    )
    assert found.evidence.endswith("(exit 6: No devices were found); the driver could not start "
                                   "the GPU")  # fmt: skip


def test_a_log_that_cannot_be_read() -> None:
    found = check(judged(nvidia_smi=said("<html/>")), "nvidia-smi")
    assert (found.status, found.cause) == (FAILED, "unreadable")


def test_a_log_without_gpus() -> None:
    log = said("<nvidia_smi_log><driver_version>470.256.02</driver_version></nvidia_smi_log>")
    report = judged(nvidia_smi=log)
    found = check(report, "nvidia-smi")
    assert (found.status, found.cause) == (FAILED, "no-devices")
    assert found.evidence == "driver 470.256.02 lists no GPU"
    assert (check(report, "gpu-state").status, report.healthy) == (NOT_RUN, False)


def test_a_gpu_of_the_bus_that_nvidia_smi_does_not_list() -> None:
    first = SMI_K80.index("<gpu ")
    second = SMI_K80.index("<gpu ", first + 1)
    report = judged("k80", K80, nvidia_smi=said(SMI_K80[:first] + SMI_K80[second:]))
    found = check(report, "nvidia-smi")
    assert (found.status, found.cause) == (FAILED, "fewer-gpus")
    assert found.evidence == ("driver 470.256.02 lists 1 of 2 GPUs; not 0000:01:00.0 [10de:102d]")


def test_fewer_gpus_than_were_planned() -> None:
    report = judged(planned=Planned(gpu_count=2))
    assert check(report, "nvidia-smi").evidence == "driver 470.256.02 lists 1 of 2 GPUs"


def state(body: str, card: str = "m4000") -> Check:
    """gpu-state, with more elements in the GPU of nvidia-smi's XML."""
    smi = text(f"healthy/{card}-smi.xml")
    return check(judged(card, nvidia_smi=said(smi.replace("</gpu>", f"{body}</gpu>", 1))),
                 "gpu-state")  # fmt: skip


REASONS = (
    "<clocks_{0}_reasons><clocks_{0}_reason_{1}>Active</clocks_{0}_reason_{1}></clocks_{0}_reasons>"
)


@pytest.mark.parametrize("word", ["throttle", "event"])
@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("gpu_idle", OK),
        ("sw_power_cap", OK),
        ("applications_clocks_setting", OK),
        ("hw_slowdown", WARN),
        ("hw_thermal_slowdown", WARN),
        ("hw_power_brake_slowdown", WARN),
        ("sw_thermal_slowdown", WARN),
    ],
)
def test_throttling_by_the_words_of_old_and_new_branches(
    word: str, reason: str, status: CheckStatus
) -> None:
    found = state(REASONS.format(word, reason))
    assert (found.status, found.cause) == (status, "throttled" if status is WARN else None)


@pytest.mark.parametrize(
    ("body", "status", "cause"),
    [
        ("<retired_pages><pending_blacklist>Yes</pending_blacklist></retired_pages>", WARN,
         "retirement-pending"),
        ("<retired_pages><pending_retirement>Yes</pending_retirement></retired_pages>", WARN,
         "retirement-pending"),
        ("<retired_pages><pending_retirement>No</pending_retirement></retired_pages>", OK, None),
    ],
)  # fmt: skip
def test_pages_that_wait_to_be_retired(body: str, status: CheckStatus, cause: str | None) -> None:
    found = state(body)
    assert (found.status, found.cause) == (status, cause)


def changed(old: str, new: str, card: str = "m4000") -> Check:
    smi = text(f"healthy/{card}-smi.xml")
    assert old in smi
    return check(judged(card, nvidia_smi=said(smi.replace(old, new, 1))), "gpu-state")


def test_rows_that_wait_to_be_remapped_and_one_that_could_not_be() -> None:
    old = "<remapped_rows>N/A</remapped_rows>"
    new = "<remapped_rows><remapped_row_pending>{}</remapped_row_pending>"
    new += "<remapped_row_failure>{}</remapped_row_failure></remapped_rows>"
    assert changed(old, new.format("No", "No")).status is OK
    assert changed(old, new.format("Yes", "No")).cause == "retirement-pending"
    failed = changed(old, new.format("Yes", "Yes"))
    assert (failed.status, failed.cause) == (FAILED, "remap-failed")
    assert "could not be remapped; " in failed.evidence and "wait to be" in failed.evidence


@pytest.mark.parametrize(
    ("temperature", "status"),
    [
        ("<gpu_temp>80 C</gpu_temp><gpu_temp_slow_threshold>97 C</gpu_temp_slow_threshold>", OK),
        ("<gpu_temp>97 C</gpu_temp><gpu_temp_slow_threshold>97 C</gpu_temp_slow_threshold>",
         FAILED),
        ("<gpu_temp>97 C</gpu_temp><gpu_temp_slow_threshold>N/A</gpu_temp_slow_threshold>", OK),
        ("<gpu_temp>80 C</gpu_temp><gpu_temp_tlimit>7 C</gpu_temp_tlimit>"
         "<gpu_temp_slow_tlimit_threshold>-2 C</gpu_temp_slow_tlimit_threshold>", OK),
        ("<gpu_temp>89 C</gpu_temp><gpu_temp_tlimit>-2 C</gpu_temp_tlimit>"
         "<gpu_temp_slow_tlimit_threshold>-2 C</gpu_temp_slow_tlimit_threshold>", FAILED),
    ],
)  # fmt: skip
def test_a_card_at_its_limit(temperature: str, status: CheckStatus) -> None:
    found = changed("<gpu_temp>34 C</gpu_temp>", temperature)
    assert (found.status, found.cause) == (status, "too-hot" if status is FAILED else None)


@pytest.mark.parametrize(
    ("volatile", "errors"),
    [
        ("<double_bit><total>0</total></double_bit>", 0),
        ("<double_bit><device_memory>3</device_memory><total>3</total></double_bit>", 3),
        ("<sram_uncorrectable>1</sram_uncorrectable><dram_uncorrectable>2</dram_uncorrectable>", 3),
        ("<sram_uncorrectable_parity>1</sram_uncorrectable_parity>"
         "<sram_uncorrectable_secded>N/A</sram_uncorrectable_secded>", 1),
        ("<sram_correctable>9</sram_correctable>", None),
    ],
)  # fmt: skip
def test_uncorrected_errors_by_the_words_of_old_and_new_cards(
    volatile: str, errors: int | None
) -> None:
    begin, end = SMI_M4000.index("<volatile>"), SMI_M4000.index("</volatile>")
    smi = SMI_M4000[:begin] + "<volatile>" + volatile + SMI_M4000[end:]
    report = judged(nvidia_smi=said(smi))
    assert report.gpus[0].uncorrected_errors == errors
    found = check(report, "gpu-state")
    assert (found.status, found.cause) == ((FAILED, "ecc-errors") if errors else (OK, None))


# deviceQuery


@pytest.mark.parametrize(
    ("query", "cause", "evidence"),
    [
        (said("Result = FAIL\n"), "unknown", "Result = FAIL"),
        (said("Detected 1 CUDA Capable device(s)\n"), "unknown", "no Result line"),
        (said(""), "unknown", "no Result line"),
        (said("Result = PASS\n"), "fewer-devices", "CUDA sees 0 of the 1 GPUs of nvidia-smi"),
        (
            said(QUERY_M4000.replace("    5.2", "    5.0")),
            "wrong-capability",
            "Quadro M4000 has CC 5.0, and 5.2 is its chip's",
        ),
        (
            said(QUERY_M4000.replace("8127 MBytes", "7000 MBytes")),
            "wrong-memory",
            "Quadro M4000: 7000 MiB for CUDA, 8126 MiB for nvidia-smi",
        ),
    ],
)
def test_a_device_query_that_did_not_pass(query: CommandResult, cause: str, evidence: str) -> None:
    report = judged(device_query=query)
    found = check(report, "device-query")
    assert (found.status, found.cause, found.evidence) == (FAILED, cause, evidence)
    assert not report.healthy


@pytest.mark.parametrize("memory", [8127, 8192, 7900])
def test_memory_drifts_between_branches(memory: int) -> None:
    query = said(QUERY_M4000.replace("8127 MBytes", f"{memory} MBytes"))
    assert judged(device_query=query).healthy


def test_one_gpu_of_two_is_not_enough() -> None:
    report = judged("k80", device_query=said(QUERY_M4000))
    assert check(report, "device-query").evidence == "CUDA sees 1 of the 2 GPUs of nvidia-smi"
    assert not report.healthy


def test_cuda_alone_is_held_to_the_plan() -> None:
    smi = said("", 127, "nvidia-smi: command not found")
    report = judged(planned=Planned(gpu_count=2), nvidia_smi=smi)
    assert check(report, "device-query").evidence == ("CUDA sees 1 of the 2 GPUs that were planned")


def test_cuda_alone_still_describes_the_gpu() -> None:
    report = judged(nvidia_smi=said("", 127, "nvidia-smi: command not found"))
    assert report.gpus == (GpuHealth("Quadro M4000", None, None, 8127, "5.2", "PASS"),)
    assert not report.healthy


def test_without_any_tool_there_is_no_gpu_to_describe() -> None:
    report = judged(nvidia_smi=said("", 127), device_query=said("", 127))
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
    report = judged("k80", nvidia_smi=said(smi), device_query=said(query))
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
    report = judged("k80", nvidia_smi=said(smi), device_query=said(query))
    assert [(g.compute_capability, g.device_query) for g in report.gpus] == [(None, None)] * 2


# The burn

PASS = {"result": "PASS", "error": None}
FAIL = {"result": "FAIL", "error": None}
DEVICE = {"device": 0, "name": "Tesla K80", "bus_id": "0000:01:00.0", "seconds": 10.2}
DEVICE |= {"iterations": 4, "mismatches": 0, "ok": True, "error": None}


def burnt(*lines: Mapping[str, object], status: int = 0) -> Check:
    return judge_burn(said("\n".join(map(json.dumps, lines)), status))


def test_a_burn_that_passes() -> None:
    found = burnt(DEVICE, PASS)
    assert (found.status, found.cause) == (OK, None)
    assert found.evidence == "0000:01:00.0 Tesla K80: 4 iterations in 10.2 s, 0 wrong words"
    assert judge_guest("vm", healthy() | {BURN: said(f"{json.dumps(PASS)}")}).healthy is False


@pytest.mark.parametrize(
    ("lines", "cause", "evidence"),
    [
        ((DEVICE | {"mismatches": 7, "ok": False}, FAIL), "wrong-results", "7 wrong words"),
        (({"result": "FAIL", "error": "cuInit returned 100 (no device)"},), "no-device", "cuInit"),
        ((DEVICE | {"error": "cuMemAlloc returned 2"}, FAIL), "unknown", "cuMemAlloc returned 2"),
        ((DEVICE,), "unknown", "no result"),
        ((PASS,), "unknown", "no result"),
        ((), "unknown", "no result"),
    ],
)
def test_a_burn_that_does_not(
    lines: tuple[Mapping[str, object], ...], cause: str, evidence: str
) -> None:
    found = burnt(*lines, status=1)
    assert (found.status, found.cause) == (FAILED, cause)
    assert evidence in found.evidence


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
            PLACE.format(1),
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
