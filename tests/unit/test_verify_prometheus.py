"""`verify --prometheus`: what node_exporter's textfile collector and Prometheus make of it."""

import re
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.verified import WHEN, broken, silent, sound
from vfio_kit.cli.verify_prometheus import prometheus_text
from vfio_kit.model.health import VerifyReport


def metrics(*reports: VerifyReport) -> dict[str, Metric]:
    families = list(text_string_to_metric_families(prometheus_text(reports, WHEN)))
    assert len({family.name for family in families}) == len(families)
    return {family.name: family for family in families}


def samples(family: Metric) -> list[tuple[dict[str, str], float]]:
    return [(sample.labels, sample.value) for sample in family.samples]


def test_a_healthy_guest() -> None:
    found = metrics(sound())
    host = {"host": "m4000"}
    gpu = {"host": "m4000", "bus_id": sound().gpus[0].bus_id}
    assert samples(found["vfio_kit_verify_checked"]) == [(host, 1)]
    assert samples(found["vfio_kit_verify_healthy"]) == [(host, 1)]
    assert samples(found["vfio_kit_verify_duration_seconds"]) == [(host, 2.125)]
    assert samples(found["vfio_kit_verify_timestamp_seconds"]) == [(host, 1772333998.123)]
    assert ({**host, "check": "nvidia-smi"}, 1) in samples(found["vfio_kit_verify_check"])
    assert samples(found["vfio_kit_gpu_memory_bytes"]) == [(gpu, 8126 << 20)]
    (labels, value) = samples(found["vfio_kit_gpu_info"])[0]
    assert value == 1
    assert labels["name"] == "Quadro M4000"
    assert (labels["driver"], labels["cuda"], labels["compute_capability"]) == (
        "470.256.02",
        "11.4",
        "5.2",
    )


def test_what_was_not_run_or_skipped_is_not_there() -> None:
    labels = [labels for labels, _ in samples(metrics(broken())["vfio_kit_verify_check"])]
    checks = [each["check"] for each in labels]
    assert "nvidia-smi" in checks
    assert not {"burn", "expect", "gpu-state"} & set(checks)


def test_a_failed_check_is_0() -> None:
    found = metrics(broken())
    assert samples(found["vfio_kit_verify_healthy"]) == [({"host": "broken"}, 0)]
    failed = ({"host": "broken", "check": "nvidia-smi"}, 0)
    assert failed in samples(found["vfio_kit_verify_check"])


def test_a_guest_that_was_not_checked_is_neither_healthy_nor_not() -> None:
    found = metrics(sound(), silent())
    assert ({"host": "silent"}, 0) in samples(found["vfio_kit_verify_checked"])
    for name, family in found.items():
        hosts = {labels.get("host") for labels, _ in samples(family)}
        told = ("checked", "check", "duration_seconds", "timestamp_seconds")
        expected = name.removeprefix("vfio_kit_verify_") in told
        assert ("silent" in hosts) is expected, name


def test_two_halves_of_a_k80_are_two_series() -> None:
    found = metrics(sound("k80", "k80"))
    for name, family in found.items():
        labels = [tuple(sorted(labels.items())) for labels, _ in samples(family)]
        assert len(set(labels)) == len(labels), name
    assert len(samples(found["vfio_kit_gpu_info"])) == 2
    assert len(samples(found["vfio_kit_gpu_ecc_enabled"])) == 2


def test_files_of_two_jobs_have_no_series_in_common() -> None:
    """node_exporter refuses a whole scrape in which a series comes twice."""
    series = [
        {line.rpartition(" ")[0] for line in prometheus_text([sound(host)], WHEN).splitlines()}
        for host in ("gpu-01", "gpu-02")
    ]
    assert all(line.startswith("# ") for line in series[0] & series[1])


def test_gpus_without_an_address_are_told_apart() -> None:
    report = sound("k80", "k80")
    nameless = tuple(replace(gpu, bus_id=None) for gpu in report.gpus)
    family = metrics(replace(report, gpus=nameless))["vfio_kit_gpu_info"]
    assert [labels["bus_id"] for labels, _ in samples(family)] == ["gpu0", "gpu1"]


def test_the_rules_of_promtool_and_the_collector() -> None:
    """`promtool check metrics`, and node_exporter/collector/textfile.go: no timestamps."""
    text = prometheus_text([sound(), sound("k80", "k80"), broken()], WHEN)
    assert text.endswith("\n")
    lines = text.splitlines()
    for above, line in pairwise(lines):
        if line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split()
            assert re.fullmatch(r"vfio_kit_[a-z0-9_]+", name)
            assert not name.endswith(("_total", "_count", "_sum", "_bucket"))
            assert kind == "gauge"
            assert above.startswith(f"# HELP {name} ")
            assert above.endswith(".")
    values = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"\w+({.*})? [0-9.e+]+", line) for line in values)
    abbreviated = re.compile(r"_(mib|mb|ms|gts|c|kib)(_|$)")
    assert not [line for line in values if abbreviated.search(line.partition("{")[0])]


@given(st.text(max_size=20))
def test_any_label_comes_back_as_it_was(label: str) -> None:
    (found,) = metrics(sound(label))["vfio_kit_verify_checked"].samples
    assert found.labels["host"] == label
