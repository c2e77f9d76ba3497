"""The real driver 470.256.02, from Debian's packages, in a guest that has an M4000 without silicon.

The module takes the card and cannot initialize it, since the card has no video BIOS. What its
tools then say is kept in tests/fixtures/driver-470, and has to be what they say here. One guest
serves all; the tests stand in the order of the story.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from .conftest import LabHost
from .hoststate import SNAPSHOT, differences

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]

STATE = "/var/lib/vfio-kit/drv"
IMAGES = "/var/lib/libvirt/images"
UP = (
    f"vfio-kit up drv --gpu 01:00.0 --guest debian-12 --driver none --image {IMAGES}/driver.qcow2 "
    f"--kernel {IMAGES}/driver-vmlinuz --initrd {IMAGES}/driver-initrd --cpus 1 --memory 1024"
)
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "driver-470" / "init-failed"
VERSION = "470.256.02"


@pytest.fixture(scope="class")
def story() -> dict[str, str]:
    """What one test leaves for a later one."""
    return {}


def guest(host: LabHost, command: str) -> tuple[int, str]:
    """Runs a command in the guest, as the ordinary user; its exit status and stdout."""
    address = json.loads(host.run("vfio-kit list --json").stdout)["vms"][0]["address"]
    ssh = (
        f"ssh -i {STATE}/id_ed25519 -o UserKnownHostsFile={STATE}/known_hosts "
        f"-o HostKeyAlias=drv -o BatchMode=yes debian@{address}"
    )
    done = host.run(f"{ssh} {shlex.quote(command)}", check=False, timeout=300)
    return done.returncode, done.stdout


def recorded(name: str) -> tuple[int, str]:
    """The exit status and stdout of a command, as they are in the fixtures."""
    status = json.loads((FIXTURES / "commands.json").read_text())[name]["status"]
    return status, (FIXTURES / f"{name}.out").read_text()


def failures(host: LabHost) -> dict[str, str]:
    """The rungs that `verify` says have failed, each with its cause."""
    done = host.run("vfio-kit verify drv --json", check=False, timeout=600)
    assert done.returncode == 3, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    (only,) = document["hosts"]
    return {c["code"]: c["cause"] for c in only["checks"] if c["status"] == "failed"}


class TestRealDriver:
    def test_up(self, gpuhost: LabHost, story: dict[str, str]) -> None:
        if "before" not in story:
            story["before"] = gpuhost.run(SNAPSHOT).stdout
        print(gpuhost.run(UP, timeout=1500).stderr)

    def test_the_module_of_the_packages_has_the_card(self, gpuhost: LabHost) -> None:
        """DKMS built it for the image's kernel, and udev loaded it."""
        assert guest(gpuhost, "cat /sys/module/nvidia/version") == (0, f"{VERSION}\n")
        assert guest(gpuhost, "/sbin/modinfo -F version nvidia-tesla-470") == (0, f"{VERSION}\n")
        driver = "basename $(readlink /sys/bus/pci/devices/0000:01:00.0/driver)"
        assert guest(gpuhost, driver) == (0, "nvidia\n")
        _, information = guest(gpuhost, "cat /proc/driver/nvidia/gpus/*/information")
        assert "Quadro M4000" in information

    @pytest.mark.parametrize(
        ("name", "command"),
        [
            ("nvidia-smi", "nvidia-smi"),
            ("nvidia-smi-xml", "nvidia-smi -q -x"),
            ("nvidia-smi-list", "nvidia-smi -L"),
            ("device-query", "deviceQuery"),
        ],
    )
    def test_a_tool_says_what_is_recorded(self, gpuhost: LabHost, name: str, command: str) -> None:
        assert guest(gpuhost, command) == recorded(name)

    def test_the_kernel_log_says_why(self, gpuhost: LabHost) -> None:
        _, log = guest(gpuhost, "sudo journalctl -k --no-pager")
        assert f"NVIDIA UNIX x86_64 Kernel Module  {VERSION}" in log
        assert "NVRM: GPU 0000:01:00.0: Failed to copy vbios to system memory." in log
        assert "NVRM: GPU 0000:01:00.0: RmInitAdapter failed!" in log

    def test_verify_names_the_truth(self, gpuhost: LabHost) -> None:
        assert failures(gpuhost) == {
            "nvidia-smi": "no-devices",
            "kernel-log": "vbios-unreadable",
            "device-query": "no-device",
        }

    def test_verify_sees_that_the_card_has_gone(self, gpuhost: LabHost) -> None:
        gpuhost.fault("gpu", on=True)
        try:
            found = failures(gpuhost)
        finally:
            gpuhost.fault("gpu", on=False)
        assert found["pci"] == "fallen-off-bus"
        assert found["nvidia-smi"] == "no-devices"

    def test_verify_sees_that_the_module_is_not_for_this_kernel(self, gpuhost: LabHost) -> None:
        guest(
            gpuhost,
            "sudo sh -c 'for m in nvidia_uvm nvidia_drm nvidia_modeset nvidia; do rmmod $m; done; "
            "mv /lib/modules/*/updates/dkms /root/; depmod -a'",
        )
        found = failures(gpuhost)
        assert found["module"] == "not-installed"
        assert found["nvidia-smi"] == "driver-not-loaded"

    def test_down_puts_the_host_back(self, gpuhost: LabHost, story: dict[str, str]) -> None:
        gpuhost.run("vfio-kit down drv --purge", timeout=300)
        assert differences(story["before"], gpuhost.run(SNAPSHOT).stdout) == []
