"""What `verify --json` prints; its schema is vfio_kit/schemas/verify-2.schema.json."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from vfio_kit.model.health import Fitness, VerifyReport

_HEALTHY = {Fitness.FIT: True, Fitness.UNFIT: False, Fitness.NOT_CHECKED: None}


def verify_document(
    reports: Sequence[VerifyReport], when: datetime, seconds: float
) -> dict[str, Any]:
    """The whole document, the hosts in the order asked for; seconds: of the whole round."""
    verdicts = {_HEALTHY[report.fitness] for report in reports}
    return {
        "schema": "vfio-kit/verify/2",
        "time": when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "healthy": False if False in verdicts else None if None in verdicts else True,
        "seconds": round(seconds, 1),
        "hosts": [_host_json(report) for report in reports],
    }


def _host_json(report: VerifyReport) -> dict[str, Any]:
    return {
        "host": report.host,
        "healthy": _HEALTHY[report.fitness],
        "seconds": round(report.seconds, 1),
        "checks": [
            {
                "code": check.code,
                "status": check.status.value,
                "cause": check.cause,
                "explained_by": check.explained_by,
                "evidence": check.evidence,
                "remedy": check.remedy,
            }
            for check in report.checks
        ],
        "gpus": [asdict(gpu) for gpu in report.gpus],
    }
