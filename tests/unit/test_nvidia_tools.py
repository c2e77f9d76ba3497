"""What nvidia-smi and deviceQuery print becomes values; what they might print is no danger."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fixtures import text
from vfio_kit.analysis.guest.nvidia_tools import (
    DeviceQuery,
    QueryDevice,
    SmiGpu,
    SmiLog,
    parse_device_query,
    parse_smi,
)

DOCTYPE = '<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v11.dtd">'


def smi(body: str) -> str:
    return f'<?xml version="1.0" ?>\n{DOCTYPE}\n<nvidia_smi_log>{body}</nvidia_smi_log>\n'


def test_an_m4000() -> None:
    assert parse_smi(text("healthy/m4000-smi.xml")) == SmiLog(
        driver="470.256.02",
        cuda="11.4",
        gpus=(
            SmiGpu(
                name="Quadro M4000",
                bus_id="00000000:01:00.0",
                memory_mib=8126,
                uuid="GPU-00000000-0000-0000-0000-0000000013f1",
                bar1_mib=256,
                utilization=0,
                link_gen=(1, 3),
                temperature_c=34,
                persistence="Disabled",
            ),
        ),
    )
    assert parse_device_query(text("healthy/m4000-device-query.txt")) == DeviceQuery(
        "PASS", (QueryDevice("Quadro M4000", "5.2", 8127, (0, 1, 0)),)
    )


def test_both_halves_of_a_k80() -> None:
    one, other = parse_smi(text("healthy/k80-smi.xml")).gpus
    assert (one.name, one.bus_id, one.memory_mib) == ("Tesla K80", "00000000:01:00.0", 11441)
    assert (other.name, other.bus_id, other.memory_mib) == ("Tesla K80", "00000000:02:00.0", 11441)
    assert (one.ecc, one.uncorrected_errors, one.bar1_mib) == ("Enabled", 0, 16384)
    assert parse_device_query(text("healthy/k80-device-query.txt")) == DeviceQuery(
        "PASS",
        (
            QueryDevice("Tesla K80", "3.7", 11441, (0, 2, 0)),
            QueryDevice("Tesla K80", "3.7", 11441, (0, 1, 0)),
        ),
    )


@pytest.mark.parametrize("value", ["", "N/A", "[N/A]", "ERR!", "Unknown Error", "  N/A  "])
def test_what_the_tool_does_not_know_is_none(value: str) -> None:
    body = (
        f"<driver_version>{value}</driver_version><cuda_version>{value}</cuda_version>"
        f"<gpu><product_name>{value}</product_name>"
        f"<fb_memory_usage><total>{value}</total></fb_memory_usage></gpu>"
    )
    assert parse_smi(smi(body)) == SmiLog(None, None, (SmiGpu(None, None, None),))


def test_elements_may_be_missing() -> None:
    assert parse_smi(smi("")) == SmiLog(None, None, ())
    assert parse_smi(smi('<gpu id="x"/>')).gpus == (SmiGpu(None, "x", None),)


@pytest.mark.parametrize(
    ("memory", "mib"),
    [("8126 MiB", 8126), ("8126", None), ("8126 MB", None), ("8 GiB", None), ("-1 MiB", None)],
)
def test_memory_is_mib_or_nothing(memory: str, mib: int | None) -> None:
    body = f"<gpu><fb_memory_usage><total>{memory}</total></fb_memory_usage></gpu>"
    assert parse_smi(smi(body)).gpus[0].memory_mib == mib


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {chr(98 + n)} "{"&" + chr(97 + n) + ";"}{"&" + chr(97 + n) + ";"}">'
        for n in range(20)
    )
    + "]><nvidia_smi_log><driver_version>&u;</driver_version></nvidia_smi_log>"
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><nvidia_smi_log>&f;</nvidia_smi_log>',
        "",
        "NVIDIA-SMI has failed",
        "<nvidia_smi_log>",
        "<nvidia_smi_log></nvidia_smi>",
        "<nvidia_smi_log>\x00</nvidia_smi_log>",
        "<nvidia_smi_log>&nbsp;</nvidia_smi_log>",
        "<nvidia_smi_log/><nvidia_smi_log/>",
        "\ud800",
    ],
    ids=range(10),
)
def test_what_is_no_log_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_smi(text)


def test_what_nobody_reads_may_be_out_of_form() -> None:
    sound = text("healthy/m4000-smi.xml")
    odd = "<processes>\n<process_name>\x1b\x01 a & <b</process_name>\n</processes>"
    odd += "<supported_clocks></supported_mem_clock>5001 MHz</supported_clocks>"
    assert parse_smi(sound.replace("</gpu>", f"{odd}{odd}</gpu>")) == parse_smi(sound)
    with pytest.raises(ValueError, match="not nvidia-smi's XML"):
        parse_smi(sound.replace("</gpu>", "<processes>&</gpu>"))


def test_another_document_is_named_by_its_root() -> None:
    with pytest.raises(ValueError, match="the root element is 'html'"):
        parse_smi("<html/>")


def test_more_gpus_than_any_machine_has_are_not_gone_through() -> None:
    text = f"<nvidia_smi_log>{'<gpu/>' * 1025}</nvidia_smi_log>"
    with pytest.raises(ValueError, match="1025 GPUs, more than 1024"):
        parse_smi(text)


@given(st.text())
def test_any_text_is_a_log_or_a_value_error(text: str) -> None:
    for document in (text, f"<nvidia_smi_log>{text}</nvidia_smi_log>"):
        try:
            log = parse_smi(document)
        except ValueError:
            continue
        assert isinstance(log, SmiLog)


def test_an_old_device_query_names_its_devices_at_the_end() -> None:
    text = (
        'Device 0: "Tesla K80"\n'
        "  CUDA Capability Major/Minor version number:    3.7\n"
        "  Total amount of global memory:                 11520 MBytes (12079136768 bytes)\n"
        "deviceQuery, CUDA Driver = CUDART, CUDA Driver Version = 7.5, NumDevs = 1, "
        "Device0 = Tesla K80\nResult = PASS\n"
    )
    assert parse_device_query(text) == DeviceQuery(
        "PASS", (QueryDevice("Tesla K80", "3.7", 11520, None),)
    )


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", None),
        ("Result = PASS\n", "PASS"),
        ("Result = FAIL", "FAIL"),
        ("Result = PASS   \n", "PASS"),
        ("Result = PASSED\n", None),
        ("  Result = PASS\n", None),
        ('Device 0: "Result = PASS"\n', None),
        ("Result = PASS\nResult = FAIL\n", "FAIL"),
    ],
)
def test_the_last_result_line_counts(text: str, result: str | None) -> None:
    assert parse_device_query(text).result == result


def test_a_name_may_hold_quotes() -> None:
    (device,) = parse_device_query('Device 0: "A "B" C"\n').devices
    assert device == QueryDevice('A "B" C', None, None, None)


@given(st.text())
def test_any_text_is_a_device_query(text: str) -> None:
    query = parse_device_query(text)
    assert query.result in ("PASS", "FAIL", None)
