"""`verify --prometheus`: metrics for node_exporter's textfile collector.

Text format 0.0.4, as Prometheus' "Exposition formats" has it; base units, as "Metric and label
naming" wants them. A sample has no time of its own: the collector refuses those.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from vfio_kit.model.health import CheckStatus, Fitness, GpuHealth, VerifyReport

_Value = float | int | bool | None
_Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Metric:
    """A row: each is a gauge, whose samples come from a host's report."""

    name: str
    help: str
    samples: Callable[[VerifyReport], Iterable[tuple[_Labels, _Value]]]


def prometheus_text(reports: Sequence[VerifyReport], when: datetime) -> str:
    """The file: each metric once, with its help and type; none without a sample."""
    # With a host, as all: files of several jobs may lie in one folder, and no series comes twice.
    name = "vfio_kit_verify_timestamp_seconds"
    lines = _head(name, "When the host was last asked, in seconds since 1970.")
    for report in reports:
        lines.append(_sample(name, {"host": report.host}, round(when.timestamp(), 3)))
    for metric in _METRICS:
        samples = [
            _sample(metric.name, {"host": report.host, **labels}, value)
            for report in reports
            for labels, value in metric.samples(report)
            if value is not None
        ]
        if samples:
            lines += [*_head(metric.name, metric.help), *samples]
    return "\n".join(lines) + "\n"


def _head(name: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} gauge"]


def _sample(name: str, labels: _Labels, value: float | int | bool) -> str:
    words = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    number = f"{value:d}" if isinstance(value, int) else repr(value)
    return f"{name}{{{words}}} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _checks(report: VerifyReport) -> Iterable[tuple[_Labels, _Value]]:
    good = (CheckStatus.OK, CheckStatus.WARN)
    for check in report.checks:
        if check.status in (*good, CheckStatus.FAILED):
            yield {"check": check.code}, check.status in good


def _warnings(report: VerifyReport) -> Iterable[tuple[_Labels, _Value]]:
    if report.fitness is not Fitness.NOT_CHECKED:
        yield {}, sum(check.status is CheckStatus.WARN for check in report.checks)


def _healthy(report: VerifyReport) -> Iterable[tuple[_Labels, _Value]]:
    if report.fitness is not Fitness.NOT_CHECKED:
        yield {}, report.fitness is Fitness.FIT


def _place(gpu: GpuHealth, number: int) -> str:
    """Its address; where that is not known, a name that tells it from the others."""
    return gpu.bus_id or f"gpu{number}"


def _of_gpus(
    value: Callable[[GpuHealth], _Value],
) -> Callable[[VerifyReport], Iterable[tuple[_Labels, _Value]]]:
    def samples(report: VerifyReport) -> Iterable[tuple[_Labels, _Value]]:
        for number, gpu in enumerate(report.gpus):
            yield {"bus_id": _place(gpu, number)}, value(gpu)

    return samples


def _info(report: VerifyReport) -> Iterable[tuple[_Labels, _Value]]:
    for number, gpu in enumerate(report.gpus):
        yield (
            {
                "bus_id": _place(gpu, number),
                "name": gpu.name or "",
                "driver": gpu.driver or "",
                "cuda": gpu.cuda or "",
                "compute_capability": gpu.compute_capability or "",
                "uuid": gpu.uuid or "",
            },
            1,
        )


def _throttled(report: VerifyReport) -> Iterable[tuple[_Labels, _Value]]:
    for number, gpu in enumerate(report.gpus):
        for reason in sorted(set(gpu.throttle_reasons)):
            yield {"bus_id": _place(gpu, number), "reason": reason}, 1


def _bytes(mib: int | None) -> int | None:
    return None if mib is None else mib << 20


def _transfers(speed: float | None) -> float | None:
    """From GT/s."""
    return None if speed is None else speed * 1e9


def _switch(state: str | None) -> bool | None:
    return None if state is None else state == "Enabled"


_METRICS: tuple[_Metric, ...] = (
    _Metric(
        "vfio_kit_verify_checked",
        "Whether the host could be checked at all.",
        lambda report: [({}, report.fitness is not Fitness.NOT_CHECKED)],
    ),
    _Metric("vfio_kit_verify_healthy", "Whether a host that was checked is healthy.", _healthy),
    _Metric("vfio_kit_verify_check", "Whether a check holds; missing if not run.", _checks),
    _Metric("vfio_kit_verify_warnings", "Checks that hold with a warning.", _warnings),
    _Metric(
        "vfio_kit_verify_duration_seconds",
        "How long the verification of a host took.",
        lambda report: [({}, round(float(report.seconds), 3))],
    ),
    _Metric("vfio_kit_gpu_info", "What the GPU is and what drives it; always 1.", _info),
    _Metric(
        "vfio_kit_gpu_memory_bytes", "Its memory.", _of_gpus(lambda gpu: _bytes(gpu.memory_mib))
    ),
    _Metric("vfio_kit_gpu_bar1_bytes", "Its BAR 1.", _of_gpus(lambda gpu: _bytes(gpu.bar1_mib))),
    _Metric(
        "vfio_kit_gpu_temperature_celsius",
        "Its temperature.",
        _of_gpus(lambda gpu: gpu.temperature_c),
    ),
    _Metric(
        "vfio_kit_gpu_pcie_link_width",
        "Lanes of its PCIe link.",
        _of_gpus(lambda gpu: gpu.link.width if gpu.link else None),
    ),
    _Metric(
        "vfio_kit_gpu_pcie_link_max_width",
        "Lanes that it could have.",
        _of_gpus(lambda gpu: gpu.link.max_width if gpu.link else None),
    ),
    _Metric(
        "vfio_kit_gpu_pcie_link_transfers_per_second",
        "Speed of a lane; lower while the GPU is idle.",
        _of_gpus(lambda gpu: _transfers(gpu.link.speed) if gpu.link else None),
    ),
    _Metric(
        "vfio_kit_gpu_pcie_link_max_transfers_per_second",
        "Speed that a lane could have.",
        _of_gpus(lambda gpu: _transfers(gpu.link.max_speed) if gpu.link else None),
    ),
    _Metric(
        "vfio_kit_gpu_ecc_enabled", "Whether ECC is on.", _of_gpus(lambda gpu: _switch(gpu.ecc))
    ),
    _Metric(
        "vfio_kit_gpu_ecc_uncorrected_errors",
        "Double-bit errors since the driver was loaded.",
        _of_gpus(lambda gpu: gpu.uncorrected_errors),
    ),
    _Metric(
        "vfio_kit_gpu_retirement_pending",
        "Whether memory waits for a reboot to be retired or remapped.",
        _of_gpus(lambda gpu: gpu.retirement_pending),
    ),
    _Metric(
        "vfio_kit_gpu_persistence_enabled",
        "Whether the driver stays initialised without clients.",
        _of_gpus(lambda gpu: _switch(gpu.persistence)),
    ),
    _Metric("vfio_kit_gpu_throttled", "Reasons for lowered clocks, while they hold.", _throttled),
)
