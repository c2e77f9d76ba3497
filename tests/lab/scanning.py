"""What `vfio-kit scan --json` says on the host, and the parts of it that tests look at."""

import json
from collections.abc import Iterable
from typing import Any

from .labhost import LabHost


def scan(host: LabHost, user: str = "root") -> dict[str, Any]:
    """The whole document; the exit status must fit to it."""
    done = host.run("vfio-kit scan --json", check=False, user=user)
    assert done.returncode in (0, 3), done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    able = any(gpu["can_go"] for gpu in document["gpus"])
    assert done.returncode == (0 if able else 3), done.stderr
    assert "Traceback" not in done.stderr
    return document


def nvidia_gpus(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The emulated cards; the host's own display is none of NVIDIA's."""
    return [gpu for gpu in document["gpus"] if gpu["vendor_id"] == "10de"]


def findings(gpus: Iterable[dict[str, Any]], code: str) -> list[dict[str, Any]]:
    """What was found of this code about any of the GPUs, in order."""
    return [found for gpu in gpus for found in gpu["findings"] if found["code"] == code]


def codes_that_weigh(part: dict[str, Any]) -> list[str]:
    """The codes of what blocks or warns, each once."""
    return sorted({found["code"] for found in part["findings"] if found["level"] != "info"})
