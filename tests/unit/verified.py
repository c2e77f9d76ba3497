"""Reports of verification, judged from recorded outputs: what the outputs of `verify` are about."""

from dataclasses import replace
from datetime import UTC, datetime

from tests.unit.fixtures import healthy
from tests.unit.values import said
from vfio_kit.analysis.guest.verification import judge_guest, unreachable
from vfio_kit.model.health import VerifyReport

WHEN = datetime(2026, 3, 1, 2, 59, 58, 123456, UTC)

NOT_LOADED = said(
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9
)


def sound(host: str = "m4000", card: str = "m4000") -> VerifyReport:
    return replace(judge_guest(host, healthy(card)), seconds=2.125)


def broken(host: str = "broken") -> VerifyReport:
    """The driver does not answer: nvidia-smi says so, and nothing above it holds."""
    failed = said("cudaGetDeviceCount returned 100\nResult = FAIL\n", 1)
    results = healthy(nvidia_smi=NOT_LOADED, device_query=failed)
    return replace(judge_guest(host, results), seconds=3.0)


def silent(host: str = "silent") -> VerifyReport:
    return replace(
        unreachable(host, f"root@{host}: cannot connect: no route", "ping"), seconds=15.0
    )
