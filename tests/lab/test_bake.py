"""bake and the first boot, for real: an image with packages in it, and what becomes of it.

The packages come from a bundle (baking.py). The tests build on each other, as one operator's day
does.
"""

import json
import shlex
import time
from typing import Any

import pytest

from .baking import (
    BASE,
    GOLDEN,
    IMAGES,
    MACHINE,
    MOST,
    PACKAGES,
    STATE,
    WANTED,
    bundle_on,
    down,
    free_gpu,
)
from .conftest import LabHost
from .hoststate import SNAPSHOT, differences

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]


@pytest.fixture(scope="module")
def story() -> dict[str, Any]:
    """What one test leaves for a later one."""
    return {}


@pytest.fixture
def bundle(gpuhost: LabHost) -> None:
    bundle_on(gpuhost)


def in_guest(host: LabHost, name: str, command: str) -> str:
    vms = json.loads(host.run("vfio-kit list --json").stdout)["vms"]
    address = next(vm["address"] for vm in vms if vm["name"] == name)
    ssh = (
        f"ssh -i {STATE}/{name}/id_ed25519 -o UserKnownHostsFile={STATE}/{name}/known_hosts "
        f"-o HostKeyAlias={name} -o BatchMode=yes debian@{address}"
    )
    return host.run(f"{ssh} {shlex.quote(command)}", timeout=300).stdout


def up(host: LabHost, name: str, options: str) -> dict[str, Any]:
    """Takes a VM up; its JSON, with the seconds to verified added."""
    free_gpu(host)
    begin = time.monotonic()
    done = host.run(f"vfio-kit up {name} --gpu 01:00.0 {options} --json", timeout=MOST)
    print(done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    host.run(f"vfio-kit verify {name}", check=False, timeout=600)
    document["to_verified"] = time.monotonic() - begin
    return document


@pytest.mark.usefixtures("bundle")
class TestGoldenImage:
    def test_bake(self, gpuhost: LabHost, story: dict[str, Any]) -> None:
        gpuhost.run(f"rm -f {GOLDEN} {IMAGES}/golden.manifest.json")
        before = gpuhost.run(SNAPSHOT).stdout
        done = gpuhost.run(f"vfio-kit bake {GOLDEN} {BASE} {WANTED} --json", timeout=MOST)
        print(done.stderr)
        story["bake"] = json.loads(done.stdout)
        assert story["bake"]["schema"] == "vfio-kit/bake/1"
        # Nothing else changed: no VM, no overlay, no seed, no keys.
        changed = differences(before, gpuhost.run(SNAPSHOT).stdout)
        assert [line.split()[-1] for line in changed] == [f"{IMAGES}/golden.manifest.json", GOLDEN]
        assert gpuhost.run(f"ls -A {STATE}").stdout == ""
        assert gpuhost.run("ls /var/log/libvirt/qemu/bake-*.console", check=False).stdout == ""

    def test_its_manifest_is_right(self, gpuhost: LabHost) -> None:
        manifest = json.loads(gpuhost.run(f"cat {IMAGES}/golden.manifest.json").stdout)
        assert manifest["schema"] == "vfio-kit/image/1"
        assert (manifest["guest"], manifest["driver"], manifest["cuda"]) == (
            "debian-12",
            "none",
            None,
        )
        versions = {package["name"]: package["version"] for package in manifest["packages"]}
        assert set(PACKAGES) <= set(versions)
        assert versions["hello"].startswith("2.10-")
        sums = gpuhost.run(f"sha256sum {GOLDEN} {IMAGES}/guest.qcow2", timeout=600).stdout.split()
        assert (manifest["image"]["sha256"], manifest["source"]["sha256"]) == (sums[0], sums[2])
        assert gpuhost.run(f"stat -c %a {GOLDEN}").stdout == "644\n"
        gpuhost.run(f"vfio-kit bake --check {GOLDEN}", timeout=600)

    def test_it_is_sealed(self, gpuhost: LabHost) -> None:
        """Read from outside, as whoever gets the image could."""
        gpuhost.run(f"qemu-img convert -O raw {GOLDEN} {IMAGES}/golden.raw", timeout=600)
        try:
            start = gpuhost.run(f"partx -rgo START --nr 1 {IMAGES}/golden.raw").stdout
            offset = 512 * int(start)
            disk = f"'{IMAGES}/golden.raw?offset={offset}'"

            def debugfs(*requests: str) -> str:
                script = "\n".join(requests)
                return gpuhost.run(f"debugfs -f /dev/stdin {disk} 2>&1", stdin=script).stdout

            assert "Filesystem state:         clean" in debugfs("show_super_stats -h")
            assert "Size: 0" in debugfs("stat /etc/machine-id")
            keys = debugfs("ls -p /etc/ssh")
            assert "sshd_config" in keys and "ssh_host" not in keys
            assert "debian:" not in debugfs("cat /etc/passwd", "cat /etc/shadow", "cat /etc/group")
            for gone in ("/home/debian", "/etc/passwd-", "/var/log/cloud-init.log"):
                assert "not found" in debugfs(f"stat {gone}")
            assert "not found" in debugfs("stat /var/lib/cloud/instance")
            assert "Size: 0" in debugfs("stat /var/log/dpkg.log")
            assert "not found" in debugfs("stat /etc/netplan/50-cloud-init.yaml")
            assert "not found" in debugfs("stat /etc/sudoers.d/90-cloud-init-users")
            assert "not found" in debugfs("stat /var/lib/systemd/random-seed")
            assert "not found" in debugfs("stat /root/.ssh/authorized_keys")
            state = debugfs("cat /var/lib/vfio-kit/provision.state")
            assert "state=done" in state and "mode=bake" in state
        finally:
            gpuhost.run(f"rm -f {IMAGES}/golden.raw")

    def test_up_from_it_installs_nothing(self, gpuhost: LabHost, story: dict[str, Any]) -> None:
        options = f"{MACHINE} --image {GOLDEN}"
        story["baked"] = up(gpuhost, "gold", options)
        assert not [s for s in story["baked"]["steps"] if s["what"].startswith("[")]
        assert in_guest(gpuhost, "gold", "hello").strip() == "Hello, world!"
        logs = "for f in /var/log/dpkg.log /var/log/apt/*.log; do [ ! -s $f ] || echo $f; done"
        assert in_guest(gpuhost, "gold", f"sudo sh -c {shlex.quote(logs)}") == ""
        assert in_guest(gpuhost, "gold", "ls /var/lib/cloud/scripts/per-boot").strip() == ""
        assert in_guest(gpuhost, "gold", "hostname").strip() == "gold"
        story["machine-id"] = in_guest(gpuhost, "gold", "cat /etc/machine-id").strip()
        assert len(story["machine-id"]) == 32

    def test_verify_holds_up_to_the_driver(self, gpuhost: LabHost) -> None:
        done = gpuhost.run("vfio-kit verify gold --json", check=False, timeout=600)
        (document,) = json.loads(done.stdout)["hosts"]
        checks = {check["code"]: check["status"] for check in document["checks"]}
        assert done.returncode == 3
        for code in ("ssh", "cloud-init", "pci"):
            assert checks[code] == "ok", document
        assert checks["module"] == "failed"

    def test_the_next_guest_is_another_one(self, gpuhost: LabHost, story: dict[str, Any]) -> None:
        """systemd takes the machine's id from the VM's UUID, which comes of its name."""
        key = in_guest(gpuhost, "gold", "sudo cat /etc/ssh/ssh_host_ed25519_key.pub")
        down(gpuhost, "gold")
        up(gpuhost, "silver", f"{MACHINE} --image {GOLDEN}")
        assert in_guest(gpuhost, "silver", "sudo cat /etc/ssh/ssh_host_ed25519_key.pub") != key
        assert in_guest(gpuhost, "silver", "cat /etc/machine-id").strip() != story["machine-id"]
        down(gpuhost, "silver")

    def test_what_the_image_was_not_made_for_is_refused(self, gpuhost: LabHost) -> None:
        free_gpu(gpuhost)
        image = f"--image {GOLDEN}"
        for options, word in (
            (f"{MACHINE} {image} --package nvtop", "nvtop"),
            (f"{MACHINE.replace('--driver none', '--driver 470')} {image}", "driver 470"),
        ):
            done = gpuhost.run(f"vfio-kit up x --gpu 01:00.0 {options}", check=False)
            assert done.returncode == 2, done.stderr
            assert word in done.stderr and "bake" in done.stderr

    def test_an_image_that_somebody_wrote_to_is_refused(self, gpuhost: LabHost) -> None:
        free_gpu(gpuhost)
        gpuhost.run(f"touch -d '+1 hour' {GOLDEN}")
        command = f"vfio-kit up x --gpu 01:00.0 {MACHINE} --image {GOLDEN}"
        done = gpuhost.run(command, check=False)
        assert done.returncode == 5 and "bake --check" in done.stderr
        gpuhost.run(f"vfio-kit bake --check {GOLDEN}", timeout=600)
        gpuhost.run(f"vfio-kit plan --gpu 01:00.0 {MACHINE} --image {GOLDEN}")


@pytest.mark.usefixtures("bundle")
class TestFirstBoot:
    def test_unbaked(self, gpuhost: LabHost, story: dict[str, Any]) -> None:
        """The same packages, from the same bundle, at boot: each step is told with its time."""
        story["unbaked"] = up(gpuhost, "plain", f"{BASE} {WANTED}")
        steps = [s["what"] for s in story["unbaked"]["steps"] if s["what"].startswith("[")]
        assert any("install the other packages" in what for what in steps)
        assert in_guest(gpuhost, "plain", "hello").strip() == "Hello, world!"
        down(gpuhost, "plain")

    def test_baked_is_quicker(self, story: dict[str, Any]) -> None:
        if {"baked", "unbaked"} - set(story):
            pytest.fail("the tests before it did not come so far")
        assert story["baked"]["to_verified"] < story["unbaked"]["to_verified"]

    def test_a_reboot_in_the_middle(self, gpuhost: LabHost) -> None:
        document = up(gpuhost, "again", f"{BASE} --package reboots-once --package hello")
        whats = [step["what"] for step in document["steps"]]
        assert document["failure"] is None
        assert whats.count("cloud-init: init") == 2
        assert any("waiting for the guest" in what or "reboots" in what for what in whats)
        boots = in_guest(gpuhost, "again", "journalctl --list-boots --no-pager | wc -l; hello")
        assert "Hello" in boots
        down(gpuhost, "again")

    def test_a_step_that_fails_is_named_with_its_log(self, gpuhost: LabHost) -> None:
        free_gpu(gpuhost)
        command = f"vfio-kit up bad --gpu 01:00.0 {BASE} --package no-such-package --json"
        done = gpuhost.run(command, check=False, timeout=MOST)
        print(done.stderr)
        assert done.returncode == 3
        document = json.loads(done.stdout)
        assert "provisioning failed" in document["failure"]
        assert document["diagnosis"]["pain"] == "package missing"
        assert any("no-such-package" in line for line in document["diagnosis"]["lines"])
        assert "E: Unable to locate package no-such-package" in done.stderr
        assert "it was left running" in done.stderr
        assert "bad" in gpuhost.run("virsh list --name").stdout
        down(gpuhost, "bad")

    def test_a_baking_that_fails_leaves_nothing(self, gpuhost: LabHost) -> None:
        before = gpuhost.run(SNAPSHOT).stdout
        command = f"vfio-kit bake {IMAGES}/none.qcow2 {BASE} --package no-such-package"
        done = gpuhost.run(command, check=False, timeout=MOST)
        print(done.stderr)
        assert done.returncode == 3
        assert "package missing" in done.stderr
        assert differences(before, gpuhost.run(SNAPSHOT).stdout) == []
        assert gpuhost.run(f"ls -A {STATE}").stdout == ""
        gpuhost.run("rm -f /var/log/libvirt/qemu/bake-*")


class TestDriver:
    """The real driver of Debian, which is in the base image already: nothing is fetched."""

    def test_a_driver_is_asserted_held_and_sealed(self, gpuhost: LabHost) -> None:
        image = f"{IMAGES}/golden-470.qcow2"
        gpuhost.run(f"rm -f {IMAGES}/golden*")
        base = f"{MACHINE} --image {IMAGES}/driver.qcow2".replace("guest-", "driver-")
        base = base.replace("--driver none", "--driver 470 --cuda none")
        done = gpuhost.run(f"vfio-kit bake {image} {base} --cc 5.2 --json", timeout=MOST)
        print(done.stderr)
        manifest = json.loads(gpuhost.run(f"cat {IMAGES}/golden-470.manifest.json").stdout)
        assert (manifest["driver"], manifest["driver_version"]) == ("470", "470.256.02")
        assert manifest["capabilities"] == ["5.2"]
        up(gpuhost, "drv", base.replace("driver.qcow2", "golden-470.qcow2"))
        held = in_guest(gpuhost, "drv", "apt-mark showhold").split()
        assert "nvidia-tesla-470-kernel-dkms" in held
        assert any(name.startswith("linux-image-") for name in held)
        assert in_guest(gpuhost, "drv", "cat /sys/module/nvidia/version").strip() == "470.256.02"
        down(gpuhost, "drv")
        gpuhost.run(f"rm -f {IMAGES}/golden*")
