"""A GPU that shares its group with a NIC in use: up refuses, names it, and changes nothing."""

import json

import pytest

from . import product
from .conftest import LabHost
from .hoststate import SNAPSHOT, differences
from .test_main_job import DIRECT, refused

pytestmark = [pytest.mark.lab, pytest.mark.topology("m4000-shared-with-nic")]


def test_refusal_names_the_nic_and_changes_nothing(host: LabHost) -> None:
    product.installed_on(host)
    before = host.run(SNAPSHOT).stdout
    done = host.run("vfio-kit scan --json", check=False)
    assert done.returncode == 3
    gpu = next(g for g in json.loads(done.stdout)["gpus"] if g["device_id"] == "13f1")
    assert gpu["verdict"] == "shared"
    nic = next(d for d in gpu["foreign_endpoints"] if d["class"] == "0200")
    assert nic["driver"] == "e1000"
    (interface,) = nic["interfaces"]
    assert "UP" in host.run(f"ip -br link show {interface}").stdout
    words = (nic["address"], "e1000", interface)
    refused(host, f"vfio-kit up x --gpu {gpu['address']} {DIRECT}", 3, *words)
    assert differences(before, host.run(SNAPSHOT).stdout) == []
    assert host.run("ls /var/lib/vfio-kit", check=False).stdout == ""
