"""The other ways to start a guest, and what a killed `up` leaves behind."""

import json
from collections.abc import Iterator

import pytest

from .conftest import LabHost
from .hoststate import SNAPSHOT, differences
from .product import installed_on
from .scanning import findings, nvidia_gpus, scan
from .test_main_job import DIRECT

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]

IMAGE = (
    "--guest debian-12 --image /var/lib/libvirt/images/guest.qcow2 --driver none "
    "--cpus 1 --memory 1024"
)


@pytest.fixture
def unchanged(host: LabHost) -> Iterator[LabHost]:
    """The host with vfio-kit installed; compared before and after."""
    installed_on(host)
    before = host.run(SNAPSHOT).stdout
    yield host
    assert differences(before, host.run(SNAPSHOT).stdout) == []


@pytest.mark.parametrize("mode", ["bios", "uefi"])
def test_the_image_boots_by_its_own_grub(unchanged: LabHost, mode: str) -> None:
    command = f"vfio-kit up {mode} --gpu 01:00.0 {IMAGE} --boot {mode} --disk 4 --json"
    document = json.loads(unchanged.run(command, timeout=1800).stdout)
    print(json.dumps(document["steps"], indent=1))
    guest = (
        f"ssh -i {document['identity']} -o UserKnownHostsFile={document['known_hosts']} "
        f"-o HostKeyAlias={mode} -o BatchMode=yes debian@{document['address']}"
    )
    look = "'ls -d /sys/firmware/efi; lspci -nn -d 10de:; findmnt -bno SIZE /'"
    said = unchanged.run(f"{guest} {look} || true", timeout=300).stdout
    assert ("/sys/firmware/efi" in said) == (mode == "uefi")
    assert "[10de:13f1]" in said and "[10de:0fbb]" in said
    assert int(said.split()[-1]) > 3 << 30  # the root grew with the disk
    (held,) = findings(nvidia_gpus(scan(unchanged)), "VK310")
    assert "a VM has it already: qemu-system-x86 (PID " in held["message"]
    unchanged.run(f"vfio-kit down {mode} --purge", timeout=300)


@pytest.mark.parametrize(
    ("signal", "seconds"),
    [*(("KILL", seconds) for seconds in (2, 3, 5, 12, 30)), ("INT", 4), ("INT", 12), ("TERM", 30)],
)
def test_a_killed_up_is_taken_down(unchanged: LabHost, signal: str, seconds: float) -> None:
    """Wherever it is hit: SIGINT and SIGTERM clean up by themselves, after SIGKILL `down` does."""
    unchanged.run(
        f"timeout -s {signal} {seconds} vfio-kit up hit --gpu 01:00.0 {DIRECT} || true", timeout=300
    )
    if signal == "KILL":
        unchanged.run("! test -e /var/lib/vfio-kit/hit || vfio-kit down hit --purge", timeout=300)
    else:
        assert json.loads(unchanged.run("vfio-kit list --json").stdout)["vms"] == []
        unchanged.run("! test -e /var/lib/vfio-kit/hit || vfio-kit down hit --purge")
