"""--expect: what an operator writes, and whether a guest's GPUs are so."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_kit.analysis.guest.expect import KEYS, judge, parse, with_expectations
from vfio_kit.errors import UsageError
from vfio_kit.model.health import Check, CheckStatus, GpuHealth, LinkHealth, VerifyReport

M4000 = GpuHealth(
    name="Quadro M4000",
    driver="470.256.02",
    cuda="11.4",
    memory_mib=8127,
    compute_capability="5.2",
    device_query="PASS",
    bus_id="00000000:05:00.0",
    bar1_mib=256,
    link=LinkHealth(8.0, 16, 8.0, 16),
    persistence="Disabled",
)
K80 = replace(
    M4000,
    name="Tesla K80",
    memory_mib=11441,
    compute_capability="3.7",
    bus_id="00000000:06:00.0",
    bar1_mib=16384,
    link=LinkHealth(8.0, 8, 8.0, 16),
    ecc="Enabled",
    persistence="Enabled",
)
OTHER_HALF = replace(K80, bus_id="00000000:07:00.0")
NOTHING = GpuHealth(None, None, None, None, None, None)


def holds(text: str, *gpus: GpuHealth) -> bool:
    return judge(parse(text), gpus).status is CheckStatus.OK


@pytest.mark.parametrize(
    "text",
    [
        "gpu_count=1,cc=5.2,driver=470.256.02,memory_mib=8127±2%",
        "gpu_count==1",
        "gpu_count>=1, gpu_count<=1",
        "driver=470",
        "driver=470.256",
        "driver>=470.82.01",
        "driver>=470",
        "driver<=470",
        "driver<=580",
        "cuda=11",
        "cuda=11.4",
        "cuda>=11.0",
        "cc>=5.0",
        "memory_mib=8127",
        "memory_mib=8192±1%",
        "memory_mib=8192+-1%",
        "memory_mib=8192+/-65",
        "memory_mib = 8192 ± 65",
        "memory_mib>=8000,memory_mib<=8192",
        "name=quadro m4000",
        "name=NVIDIA Quadro M4000",
        "bar1_mib>=256",
        "link_width=16",
        "gpu0.link_width=16",
        "ecc=none",
        "persistence=off",
        "persistence=Disabled",
    ],
)
def test_what_holds_for_an_m4000(text: str) -> None:
    assert holds(text, M4000)


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("gpu_count=2", "gpu_count=2: found 1"),
        ("driver=47", "driver=47: found 470.256.02"),
        ("driver=470.25", "driver=470.25: found 470.256.02"),
        ("driver=470.256.02.1", "driver=470.256.02.1: found 470.256.02"),
        ("driver>=535", "driver>=535: found 470.256.02"),
        ("driver<=470.82", "driver<=470.82: found 470.256.02"),
        ("cuda>=12", "cuda>=12: found 11.4"),
        ("cc=3.7", "cc=3.7: found 5.2"),
        ("memory_mib=8192±64", "memory_mib=8192±64: found 8127"),
        ("memory_mib=8300±2%", "memory_mib=8300±2%: found 8127"),
        ("memory_mib>=8192", "memory_mib>=8192: found 8127"),
        ("name=M4000", "name=M4000: found Quadro M4000"),
        ("ecc=on", "ecc=on: found not known"),
        ("persistence=on", "persistence=on: found Disabled"),
        ("gpu1.cc=5.2", "gpu1.cc=5.2: there is no such GPU, but 1 in all"),
        ("cc=5.2,cuda=12,gpu_count=2", "cuda=12: found 11.4; gpu_count=2: found 1"),
    ],
)
def test_what_does_not_hold_is_told_with_what_was_found(text: str, evidence: str) -> None:
    check = judge(parse(text), [M4000])
    assert (check.code, check.status) == ("expect", CheckStatus.FAILED)
    assert (check.cause, check.evidence) == ("not-as-expected", evidence)
    assert check.remedy


def test_a_k80_is_two_gpus_and_all_of_them_are_held_to_it() -> None:
    assert holds("gpu_count=2,cc=3.7,ecc=on,memory_mib=11441±1%", K80, OTHER_HALF)
    check = judge(parse("gpu_count=2,cc=3.7"), [K80, M4000])
    assert check.evidence == "cc=3.7: found 5.2 at 00000000:05:00.0"


def test_one_gpu_is_named_by_its_place_in_the_order_of_addresses() -> None:
    assert holds("gpu0.cc=5.2,gpu1.cc=3.7", K80, M4000)
    check = judge(parse("gpu1.link_width=16"), [K80, M4000])
    assert check.evidence == "gpu1.link_width=16: found 8 at 00000000:06:00.0"


def test_what_holds_is_told_as_it_was_written() -> None:
    assert judge(parse("gpu_count=1 , cc>=5.0"), [M4000]).evidence == "gpu_count=1, cc>=5.0"


@pytest.mark.parametrize("key", [key.name for key in KEYS if key.name != "gpu_count"])
def test_a_value_that_is_not_known_is_not_as_expected(key: str) -> None:
    value = {"name": "x", "ecc": "on", "persistence": "off"}.get(key, "1")
    assert judge(parse(f"{key}={value}"), [NOTHING]).evidence == f"{key}={value}: found not known"
    assert not holds(f"{key}={value}")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "character 1: '' expects nothing", "keys: gpu_count, name, cc, driver"),
        (" , ", "character 1: ' , ' expects nothing", "keys: "),
        ("cc", "character 1: 'cc' is not KEY=VALUE", "keys: "),
        ("cc=5.2,colour=red", "character 8: 'colour' is no key", "keys: gpu_count"),
        ("gpu_count=1, gpus=1", "character 14: 'gpus' is no key", "keys: "),
        ("gpu_count=one", "character 11: 'one' is no value for gpu_count", "takes =, >=, <="),
        ("memory_mib=8127±", "character 12: '8127±' is no value", "±2% or ±50"),
        ("memory_mib>=8127±2%", "character 13: '8127±2%' is no value", "with = a tolerance"),
        ("memory_mib=-1", "'-1' is no value", "memory_mib takes"),
        ("driver=470.x", "'470.x' is no value for driver", "470 for 470.256.02"),
        ("driver=", "character 8: '' is no value for driver", "driver takes"),
        ("name>=M4000", "character 5: '>=' cannot be used here", "name takes ="),
        ("cc>5", "character 3: '>' cannot be used here", "cc takes =, >=, <="),
        ("ecc=maybe", "'maybe' is no value for ecc", "on or off"),
        ("gpu0.gpu_count=1", "is about one GPU", "gpu_count=1"),
    ],
)
def test_what_cannot_be_meant_names_its_place(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.message.startswith("--expect, character ")
    assert message in caught.value.message
    assert hint in caught.value.hint


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except UsageError:
        return
    judge(found, [M4000, NOTHING])


# In a report


SSH = Check("ssh", CheckStatus.OK, "the host key is the known one")
SMI = Check("nvidia-smi", CheckStatus.FAILED, "not loaded", "load it", "driver-not-loaded")


def test_an_expectation_that_fails_makes_a_sound_guest_unhealthy() -> None:
    report = VerifyReport("vm", (M4000,), (SSH,))
    assert report.healthy
    assert with_expectations(report, parse("cc=5.2")).healthy
    found = with_expectations(report, parse("cc=3.7"))
    assert not found.healthy
    assert [check.code for check in found.checks] == ["ssh", "expect"]
    assert found.checks[-1].explained_by is None


def test_nothing_expected_changes_nothing() -> None:
    report = VerifyReport("vm", (M4000,), (SSH,))
    assert with_expectations(report, ()) is report


def test_the_rung_that_stood_for_it_is_replaced() -> None:
    asked_nothing = Check("expect", CheckStatus.SKIPPED, "nothing is expected")
    report = VerifyReport("vm", (M4000,), (SSH, asked_nothing))
    found = with_expectations(report, parse("cc=5.2"))
    assert [(c.code, c.status) for c in found.checks] == [
        ("ssh", CheckStatus.OK),
        ("expect", CheckStatus.OK),
    ]


def test_a_guest_that_was_not_reached_is_not_held_to_anything() -> None:
    not_run = Check("expect", CheckStatus.NOT_RUN, "SSH comes first")
    report = VerifyReport("vm", (), (replace(SSH, status=CheckStatus.FAILED), not_run))
    assert with_expectations(report, parse("cc=5.2")) is report


def test_what_is_not_known_is_explained_by_the_rung_that_failed() -> None:
    report = VerifyReport("vm", (), (SSH, SMI))
    assert with_expectations(report, parse("gpu_count=1")).checks[-1].explained_by == "nvidia-smi"
    report = VerifyReport("vm", (replace(M4000, driver=None),), (SSH, SMI))
    assert with_expectations(report, parse("driver=470")).checks[-1].explained_by == "nvidia-smi"
    assert with_expectations(report, parse("cc=3.7")).checks[-1].explained_by is None
