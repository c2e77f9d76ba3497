"""A VM over a reboot of its host: with a unit that starts it, and without.

Two guests and two reboots of the host; the tests of a class tell one story, in order.
"""

import json
import shlex

import pytest

from .conftest import LabHost
from .hoststate import SNAPSHOT, differences

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]

GPU, AUDIO = "0000:01:00.0", "0000:01:00.1"
DIRECT = (
    "--guest debian-12 --image /var/lib/libvirt/images/guest.qcow2 --driver none "
    "--kernel /var/lib/libvirt/images/guest-vmlinuz "
    "--initrd /var/lib/libvirt/images/guest-initrd --cpus 1 --memory 1024"
)
STATE = "/var/lib/vfio-kit"
UNIT = "vfio-kit@m4000.service"
PAGES = 512
"""Of 2 MiB, for 1024 MiB."""


@pytest.fixture(scope="class")
def story() -> dict[str, str]:
    """What one test of a class leaves for a later one."""
    return {}


def drivers(host: LabHost) -> list[str]:
    links = " ".join(f"/sys/bus/pci/devices/{function}/driver" for function in (GPU, AUDIO))
    return [
        line.rpartition("/")[2]
        for line in host.run(f"readlink {links}", check=False).stdout.splitlines()
    ]


def pages_in_use(host: LabHost) -> int:
    total, free = host.run(
        "awk '/HugePages_(Total|Free)/ { print $2 }' /proc/meminfo"
    ).stdout.split()
    return int(total) - int(free)


def in_guest(host: LabHost, command: str) -> str:
    """Runs a command in the guest, which may have to boot first."""
    address = json.loads(host.run("vfio-kit list --json").stdout)["vms"][0]["address"]
    ssh = (
        f"ssh -i {STATE}/m4000/id_ed25519 -o UserKnownHostsFile={STATE}/m4000/known_hosts "
        f"-o HostKeyAlias=m4000 -o BatchMode=yes -o ConnectTimeout=60 debian@{address}"
    )
    # A connection that nobody answers ends at once: until the guest has its address, and its sshd.
    attempts = f"for n in $(seq 120); do {ssh} {shlex.quote(command)} && break; sleep 3; done"
    return host.run(attempts, timeout=900).stdout


def repair(host: LabHost, *options: str) -> tuple[int, list[str]]:
    """The status of `repair`, and the words of what it found."""
    words = " ".join(options)
    done = host.run(f"vfio-kit repair --json {words}", check=False, timeout=300)
    document = json.loads(done.stdout)
    assert document["schema"] == "vfio-kit/repair/1"
    assert document["healthy"] == (done.returncode == 0), done.stdout
    return done.returncode, [left["word"] for left in document["leftovers"]]


class TestAutostart:
    def test_up(self, gpuhost: LabHost, story: dict[str, str]) -> None:
        if "before" not in story:
            story["before"] = gpuhost.run(SNAPSHOT).stdout
        up = f"vfio-kit up m4000 --autostart --gpu 01:00.0 {DIRECT}"
        print(gpuhost.run(up, timeout=1500).stderr)
        assert gpuhost.run(f"systemctl is-enabled {UNIT}").stdout.strip() == "enabled"
        # It was told that the VM runs, or its shutdown would not be this unit's.
        assert gpuhost.run(f"systemctl is-active {UNIT}").stdout.strip() == "active"
        verified = gpuhost.run(f"systemd-analyze verify {UNIT}", check=False)
        assert (verified.returncode, verified.stderr) == (0, "")
        assert repair(gpuhost, "--check") == (0, [])

    def test_reboot(self, gpuhost: LabHost) -> None:
        boot = in_guest(gpuhost, "cat /proc/sys/kernel/random/boot_id")
        gpuhost.reboot()
        journal = gpuhost.run(f"cat {STATE}/m4000/journal.jsonl").stdout.splitlines()
        events = [json.loads(line) for line in journal]
        told = [(event.get("step"), event["phase"]) for event in events[-6:]]
        assert told == [
            # The unit's end, in good order, while libvirt was there.
            ("start", "undone"),
            ("hugepages", "undone"),
            # And its start on the next boot.
            ("hugepages", "begin"),
            ("hugepages", "done"),
            ("start", "begin"),
            ("start", "done"),
        ], gpuhost.run(f"journalctl -b -u {UNIT}").stdout
        assert gpuhost.run(f"systemctl is-active {UNIT}").stdout.strip() == "active"
        assert drivers(gpuhost) == ["vfio-pci", "vfio-pci"]
        assert pages_in_use(gpuhost) == PAGES
        assert repair(gpuhost, "--check") == (0, [])
        assert in_guest(gpuhost, "cat /proc/sys/kernel/random/boot_id") != boot
        # It had shut down: its file system needed no recovery.
        assert "recovery" not in in_guest(gpuhost, "sudo dmesg | grep EXT4-fs")

    def test_stop_and_start_go_with_the_unit(self, gpuhost: LabHost) -> None:
        said = gpuhost.run("vfio-kit stop m4000", timeout=400).stderr
        assert "m4000 has shut down" in said
        assert drivers(gpuhost) == ["snd_hda_intel"]
        assert pages_in_use(gpuhost) == 0
        assert gpuhost.run("vfio-kit stop m4000").stderr.strip() == "m4000 is off already"
        gpuhost.run(f"until ! systemctl is-active -q {UNIT}; do sleep 1; done", timeout=60)
        assert repair(gpuhost, "--check") == (0, [])
        gpuhost.run(f"systemctl start {UNIT}", timeout=300)
        assert drivers(gpuhost) == ["vfio-pci", "vfio-pci"]
        assert gpuhost.run("vfio-kit start m4000").stderr.strip() == "m4000 is up already"

    def test_down(self, gpuhost: LabHost, story: dict[str, str]) -> None:
        print(gpuhost.run("vfio-kit down m4000 --purge", timeout=300).stderr)
        assert differences(story["before"], gpuhost.run(SNAPSHOT).stdout) == []
        listed = gpuhost.run("systemctl list-units --all --plain --no-legend 'vfio-kit@*'").stdout
        assert listed == ""


class TestWithoutAutostart:
    def test_up(self, gpuhost: LabHost, story: dict[str, str]) -> None:
        if "before" not in story:
            story["before"] = gpuhost.run(SNAPSHOT).stdout
        gpuhost.run(f"vfio-kit up m4000 --gpu 01:00.0 {DIRECT}", timeout=1500)

    def test_reboot_is_told(self, gpuhost: LabHost) -> None:
        gpuhost.reboot()
        before = gpuhost.run(f"cat {STATE}/m4000/journal.jsonl").stdout
        assert repair(gpuhost, "--check") == (3, ["rebooted"])
        shown = gpuhost.run("vfio-kit repair --check", check=False).stdout
        assert "m4000: rebooted: the host was rebooted" in shown
        assert "→ vfio-kit start m4000" in shown
        assert gpuhost.run(f"cat {STATE}/m4000/journal.jsonl").stdout == before

    def test_an_undefined_domain_is_mended(self, gpuhost: LabHost) -> None:
        gpuhost.run("virsh -q undefine --nvram m4000")
        assert repair(gpuhost, "--check") == (3, ["rebooted", "undefined"])
        assert repair(gpuhost) == (0, ["rebooted", "undefined"])
        assert "m4000" in gpuhost.run("virsh list --all --name").stdout
        assert repair(gpuhost, "--check") == (0, [])

    def test_start(self, gpuhost: LabHost) -> None:
        print(gpuhost.run("vfio-kit start m4000 --timeout 900", timeout=1000).stderr)
        assert drivers(gpuhost) == ["vfio-pci", "vfio-pci"]
        assert pages_in_use(gpuhost) == PAGES
        assert "10de:13f1" in in_guest(gpuhost, "lspci -n")

    def test_destroyed_by_hand_is_mended(self, gpuhost: LabHost) -> None:
        gpuhost.run("virsh -q destroy m4000", timeout=300)
        assert repair(gpuhost, "--check") == (3, ["ended"])
        assert repair(gpuhost) == (0, ["ended"])
        assert (drivers(gpuhost), pages_in_use(gpuhost)) == (["snd_hda_intel"], 0)

    def test_down(self, gpuhost: LabHost, story: dict[str, str]) -> None:
        gpuhost.run("vfio-kit down m4000 --purge", timeout=300)
        assert differences(story["before"], gpuhost.run(SNAPSHOT).stdout) == []
