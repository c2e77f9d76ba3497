"""bake and the first boot, for real: an image with packages in it, what becomes of it, and times.

The packages come from a bundle that is made here, by the script that `render` writes, and are taken
to the host, which has no network. The tests build on each other, as one operator's day does.
"""

import json
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import LabHost
from .hoststate import SNAPSHOT, differences
from .paths import cache_dir

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]

IMAGES = "/var/lib/libvirt/images"
STATE = "/var/lib/vfio-kit"
GOLDEN = f"{IMAGES}/golden.qcow2"
PACKAGES = ("hello", "tree", "file")
MACHINE = (
    f"--guest debian-12 --kernel {IMAGES}/guest-vmlinuz --initrd {IMAGES}/guest-initrd "
    "--driver none --cpus 1 --memory 1024"
)
BASE = f"{MACHINE} --image {IMAGES}/guest.qcow2 --bundle /root/bundle"
WANTED = " ".join(f"--package {name}" for name in PACKAGES)
MOST = 3000.0
"""Seconds for a boot with an installation, on the slowest machine."""

REBOOTS = """Package: reboots-once
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: a package that reboots the machine when it is installed
"""


@pytest.fixture(scope="module")
def story() -> dict[str, Any]:
    """What one test leaves for a later one."""
    return {}


@pytest.fixture
def bundle(gpuhost: LabHost) -> None:
    """A bundle on the host, made of Debian's own packages and of one that reboots."""
    if gpuhost.run("test -e /root/bundle/SHA256SUMS", check=False).returncode == 0:
        return
    gpuhost.run("rm -rf /root/render; mkdir /root/render")
    gpuhost.run(
        f"vfio-kit render --name x --gpu 01:00.0 {BASE} {WANTED} --output bundle -o /root/render"
    )
    folder = cache_dir() / "bundle"
    folder.mkdir(parents=True, exist_ok=True)
    gpuhost.get("/root/render/make-bundle.sh", folder / "make-bundle.sh")
    made = folder / "bundle"
    subprocess.run(["bash", folder / "make-bundle.sh", made], check=True, timeout=600)
    _add_package(made, "reboots-once", REBOOTS, "systemd-run --on-active=1s systemctl reboot")
    gpuhost.put(made, "/root/bundle")


def _add_package(bundle: Path, name: str, control: str, postinst: str) -> None:
    """Builds a package into the bundle, with its place in the index and in the sums."""
    tree, deb = bundle.parent / name, bundle / "apt" / f"{name}_1.0_all.deb"
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / "DEBIAN/control").write_text(control)
    (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\n{postinst}\n")
    (tree / "DEBIAN/postinst").chmod(0o755)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, deb], check=True)
    index = (
        f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {_sha256(deb)}\n\n"
    )
    with (bundle / "apt/Packages").open("a") as stream:
        stream.write(index)
    files = sorted(path for path in (bundle / "apt").iterdir())
    sums = "".join(f"{_sha256(path)}  {path.relative_to(bundle)}\n" for path in files)
    (bundle / "SHA256SUMS").write_text(sums)


def _sha256(path: Path) -> str:
    done = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True)
    return done.stdout.split()[0]


def in_guest(host: LabHost, name: str, command: str) -> str:
    vms = json.loads(host.run("vfio-kit list --json").stdout)["vms"]
    address = next(vm["address"] for vm in vms if vm["name"] == name)
    ssh = (
        f"ssh -i {STATE}/{name}/id_ed25519 -o UserKnownHostsFile={STATE}/{name}/known_hosts "
        f"-o HostKeyAlias={name} -o BatchMode=yes debian@{address}"
    )
    return host.run(f"{ssh} {shlex.quote(command)}", timeout=300).stdout


def free_gpu(host: LabHost) -> None:
    """Takes VMs away that a failed test left, or no other test would get the GPU."""
    for vm in json.loads(host.run("vfio-kit list --json").stdout)["vms"]:
        down(host, vm["name"])


def up(host: LabHost, name: str, options: str) -> dict[str, Any]:
    """Takes a VM up; its JSON, with the seconds to SSH and to verified added."""
    free_gpu(host)
    begin = time.monotonic()
    done = host.run(f"vfio-kit up {name} --gpu 01:00.0 {options} --json", timeout=MOST)
    print(done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    host.run(f"vfio-kit verify {name}", check=False, timeout=600)
    document["to_ssh"] = sum(
        step["seconds"]
        for step in document["steps"][: _position(document, "logged in") + 1]
        if not step["what"].startswith("cloud-init")
    )
    document["to_verified"] = time.monotonic() - begin
    return document


def _position(document: dict[str, Any], words: str) -> int:
    whats = [step["what"] for step in document["steps"]]
    return next(n for n, what in enumerate(whats) if what.startswith(words))


def down(host: LabHost, name: str) -> None:
    host.run(f"vfio-kit down {name} --purge", timeout=300)


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
        print("\n" + table(story["baked"], story["unbaked"], story["bake"]["seconds"]))
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


def table(baked: dict[str, Any], unbaked: dict[str, Any], bake_seconds: float) -> str:
    """Baked beside unbaked, and the ratio."""
    rows = [("", "baked", "unbaked", "ratio")]
    for label, key in (
        ("to SSH", "to_ssh"),
        ("up is done", "seconds"),
        ("verified", "to_verified"),
    ):
        rows.append(
            (
                label,
                f"{baked[key]:.0f} s",
                f"{unbaked[key]:.0f} s",
                f"{unbaked[key] / baked[key]:.2f}",
            )
        )
    lines = ["{:<12}{:>10}{:>10}{:>8}".format(*row) for row in rows]
    return "\n".join([*lines, f"the baking itself: {bake_seconds:.0f} s, once"])
