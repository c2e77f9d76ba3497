"""The rungs of CUDA: deviceQuery and the burn."""

import json
from collections.abc import Mapping

import pytest

from tests.unit.fixtures import result, text
from tests.unit.test_verification import check, judged
from tests.unit.values import said
from vfio_kit.analysis.guest.verification import judge_burn
from vfio_kit.guest.probe import BURN
from vfio_kit.model.health import Check, CheckStatus, CommandResult, GpuHealth, Planned

OK, WARN, FAILED = CheckStatus.OK, CheckStatus.WARN, CheckStatus.FAILED
SKIPPED, NOT_RUN = CheckStatus.SKIPPED, CheckStatus.NOT_RUN
SMI_M4000, SMI_K80 = text("healthy/m4000-smi.xml"), text("healthy/k80-smi.xml")
QUERY_M4000 = text("healthy/m4000-device-query.txt")


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


def test_an_error_of_cuda_is_told_with_its_reason() -> None:
    found = check(judged(device_query=result("device-query/cuda-error.text.txt")), "device-query")
    assert found.evidence == (
        "CUDA could not start, for a reason that it names (exit 1: cudaGetDeviceCount returned 46 "
        "-> all CUDA-capable devices are busy or unavailable)"
    )


@pytest.mark.parametrize("memory", [8127, 8192, 7900])
def test_memory_drifts_between_branches(memory: int) -> None:
    query = said(QUERY_M4000.replace("8127 MBytes", f"{memory} MBytes"))
    assert judged(device_query=query).healthy


@pytest.mark.parametrize(("listed", "seen"), [(15360, 14910), (1024, 980)])
def test_nvidia_smi_counts_what_the_driver_keeps_for_itself(listed: int, seen: int) -> None:
    smi = said(SMI_M4000.replace("<total>8126 MiB", f"<total>{listed} MiB"))
    query = said(QUERY_M4000.replace("8127 MBytes", f"{seen} MBytes"))
    assert judged(nvidia_smi=smi, device_query=query).healthy


@pytest.mark.parametrize(("mode", "healthy"), [("Enabled", True), ("Disabled", False)])
def test_an_instance_of_mig_has_a_part_of_the_memory(mode: str, healthy: bool) -> None:
    smi = said(SMI_M4000.replace("<current_mig>N/A", f"<current_mig>{mode}"))
    query = said(QUERY_M4000.replace("8127 MBytes", "1024 MBytes"))
    assert judged(nvidia_smi=smi, device_query=query).healthy is healthy


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
    output = f"{json.dumps(DEVICE)}\n{json.dumps(PASS)}"
    assert check(judged(burn=said(output)), BURN) == found


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
