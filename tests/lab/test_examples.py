"""docs/examples/systemd on a host that systemd runs: what confines the service hides nothing."""

import re
from pathlib import Path

import pytest

from .labhost import LabHost

EXAMPLES = Path(__file__).parents[2] / "docs/examples/systemd"
SERVICE, TIMER = "vfio-kit-verify.service", "vfio-kit-verify.timer"
TEXTFILES = "/var/lib/prometheus/node-exporter"


def checks(metrics: str) -> dict[str, str]:
    """Each rung that was climbed, and whether it holds; how many warn."""
    found = re.findall(r'^vfio_kit_verify_check\{.*check="(.+?)"\} (\d)$', metrics, re.MULTILINE)
    (warnings,) = re.findall(r"^vfio_kit_verify_warnings\{.*\} (\d+)$", metrics, re.MULTILINE)
    return {**dict(found), "warnings": warnings}


@pytest.mark.lab_long
@pytest.mark.topology("m4000-isolated")
def test_the_service_writes_what_verify_finds_unconfined(gpuhost: LabHost) -> None:
    for name in (SERVICE, TIMER):
        gpuhost.put(EXAMPLES / name, f"/etc/systemd/system/{name}")
    gpuhost.run(f"mkdir -p {TEXTFILES} && systemctl daemon-reload")
    try:
        # 3 is an answer, and no failure of the unit: no driver has the card here.
        gpuhost.run(f"systemctl start {SERVICE}", timeout=300)
        # (systemd forgets the exit status itself with a unit that has ended well.)
        assert gpuhost.run(f"systemctl show -p Result {SERVICE}").stdout == "Result=success\n"
        written = gpuhost.run(f"ls -A {TEXTFILES}; cat {TEXTFILES}/vfio-kit.prom").stdout
        assert written.startswith("vfio-kit.prom\n#")
        free = gpuhost.run("vfio-kit verify --local --prometheus -", check=False, timeout=300)
        assert free.returncode == 3
        assert checks(written) == checks(free.stdout)
        assert checks(written).keys() >= {"pci", "module", "kernel-log"}
        gpuhost.run(f"systemctl start {TIMER} && systemctl is-active {TIMER}")
    finally:
        gpuhost.run(
            f"systemctl stop {TIMER} {SERVICE}; rm -rf /var/lib/prometheus "
            f"/etc/systemd/system/vfio-kit-verify.*; systemctl daemon-reload; "
            f"systemctl reset-failed {SERVICE}",
            check=False,
        )
