"""The rungs of nvidia-smi: that it lists every GPU, and what it says of their state."""

import pytest

from tests.unit.fixtures import result, text
from tests.unit.test_verification import K80, check, judged
from tests.unit.values import said
from vfio_kit.model.health import Check, CheckStatus, Planned

OK, WARN, FAILED = CheckStatus.OK, CheckStatus.WARN, CheckStatus.FAILED
SKIPPED, NOT_RUN = CheckStatus.SKIPPED, CheckStatus.NOT_RUN
SMI_M4000, SMI_K80 = text("healthy/m4000-smi.xml"), text("healthy/k80-smi.xml")
QUERY_M4000 = text("healthy/m4000-device-query.txt")


def test_evidence_is_the_line_that_matters() -> None:
    report = judged(
        nvidia_smi=said("the reason\nadvice\nmore advice\n", 77),
        device_query=said("Starting\n\nwhat broke\n", 3),
    )
    assert check(report, "nvidia-smi").evidence == "exit 77: the reason"
    assert check(report, "device-query").evidence == "exit 3: what broke"
    assert {check(report, code).cause for code in ("nvidia-smi", "device-query")} == {"unknown"}


def test_a_failure_that_says_nothing() -> None:
    assert check(judged(nvidia_smi=said("", 77)), "nvidia-smi").evidence == "exit 77"
    document = judged(nvidia_smi=said(SMI_M4000, 15))
    assert check(document, "nvidia-smi").evidence == "the GPU fell off the bus (exit 15)"


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


@pytest.mark.parametrize("warning", ["inforom-corrupt", "sensor-error"])
def test_a_warning_hides_no_failure(warning: str) -> None:
    shown = result(f"nvidia-smi/{warning}.text.txt").stdout
    assert check(judged(nvidia_smi=said(shown)), "nvidia-smi").cause == warning
    found = check(judged(nvidia_smi=said(shown, 15)), "nvidia-smi")
    assert (found.status, found.cause) == (FAILED, "gpu-lost")


def test_a_corrupt_inforom_hides_nothing() -> None:
    """With a warning alone, and no GPU beside it, nothing is proven."""
    warned = result("nvidia-smi/inforom-corrupt.text.txt")
    report = judged(nvidia_smi=said(warned.stdout, 14))
    assert check(report, "nvidia-smi").status is WARN
    assert check(report, "gpu-state").status is OK and report.healthy
    alone = judged(nvidia_smi=said("WARNING: infoROM is corrupted at gpu 0000:01:00.0\n", 14))
    assert check(alone, "nvidia-smi").status is FAILED and not alone.healthy


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


@pytest.mark.parametrize("upper", ["0000", "3E3F"])
def test_domains_tell_gpus_apart(upper: str) -> None:
    """As Hyper-V has them: each in a domain of its own, at bus and device 0."""
    pci = text("healthy/k80-pci.txt").replace("0000:01:00.0", "0001:00:00.0")
    pci = pci.replace("0000:02:00.0", "0002:00:00.0")
    smi = SMI_K80.replace("00000000:01:00.0", f"{upper}0001:00:00.0")
    both = smi.replace("00000000:02:00.0", f"{upper}0002:00:00.0")
    query = text("healthy/k80-device-query.txt").replace("0 / 1 / 0", "1 / 0 / 0")
    query = query.replace("0 / 2 / 0", "2 / 0 / 0")
    report = judged("k80", pci=said(pci), nvidia_smi=said(both), device_query=said(query))
    assert report.healthy
    assert [gpu.ids for gpu in report.gpus] == ["10de:102d"] * 2
    second = both.index("<gpu ", both.index("<gpu ") + 1)
    one = said(both[:second] + "</nvidia_smi_log>")
    found = check(judged("k80", pci=said(pci), nvidia_smi=one), "nvidia-smi")
    assert (found.status, found.cause) == (FAILED, "fewer-gpus")
    assert found.evidence.endswith("lists 1 of 2 GPUs; not 0002:00:00.0 [10de:102d]")


def test_gpus_without_a_place_are_counted() -> None:
    first = SMI_K80.index("<gpu ")
    second = SMI_K80.index("<gpu ", first + 1)
    one = SMI_K80[:second].replace("00000000:01:00.0", "N/A") + "</nvidia_smi_log>"
    found = check(judged("k80", nvidia_smi=said(one)), "nvidia-smi")
    assert found.evidence == "driver 470.256.02 lists 1 of 2 GPUs"


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
