"""A baked image: made whole or not at all, known by its manifest, and never taken for another."""

import json
import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import vfio_kit
from tests.unit.test_images import qcow2
from tests.unit.test_journal import RECORD
from tests.unit.test_scan import undocumented
from tests.unit.tools import accepts
from tests.unit.tools import run as run_tool
from vfio_kit.analysis.guest.inventory import Inventory, parse_inventory
from vfio_kit.apply.bake import export_image, require_new, wait_until_off
from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.image_store import stored_images
from vfio_kit.apply.images import create_overlay, examine_image
from vfio_kit.apply.journal import VmFolder
from vfio_kit.apply.manifest import (
    FileIdentity,
    Manifest,
    baked_image,
    check_image,
    identify,
    manifest_of,
    read_manifest,
    write_manifest,
)
from vfio_kit.apply.transaction import take_down
from vfio_kit.assets import asset_dir
from vfio_kit.cli.bake_command import default_name
from vfio_kit.cli.preflight import disk_mib
from vfio_kit.errors import HostError, HypervisorError, UsageError
from vfio_kit.guest.local import LocalRunner
from vfio_kit.guest.seal import INVENTORY, NotSealed, seal, take_inventory
from vfio_kit.model.vm import BakedImage, CudaWay, InstalledPackage, Software, check_name

SCHEMA = json.loads(
    (Path(vfio_kit.__file__).parent / "schemas/image-1.schema.json").read_text("utf-8")
)
SOURCE = FileIdentity("debian-12.qcow2", 3, "0" * 64)
SEAL = asset_dir("templates") / "guest/seal.sh"


def manifest(image: FileIdentity, changed: int = 0, **values: Any) -> Manifest:
    made = Manifest(
        image=image,
        changed=changed,
        source=SOURCE,
        guest="debian-12",
        system="Debian GNU/Linux 12 (bookworm)",
        kernel="6.1.0-50-cloud-amd64",
        driver="470",
        driver_version="470.256.02",
        cuda="11.4",
        cuda_way=CudaWay.PACKAGES,
        capabilities=("5.2",),
        asked_for=("nvtop",),
        packages=(InstalledPackage("nvtop", "3.0.1-1", "amd64"),),
        made_at="2026-11-21T20:00:00+00:00",
        seconds=321.5,
        vfio_kit="0.1.0",
    )
    return replace(made, **values)


@pytest.fixture
def vm(tmp_path: Path) -> VmFolder:
    folder = VmFolder(tmp_path / "state" / "vm")
    folder.create(RECORD)
    return folder


def overlay(tmp_path: Path) -> Path:
    """A disk on a base, both with something in it."""
    base, disk = qcow2(tmp_path / "base.qcow2"), tmp_path / "vm.qcow2"
    accepts("qemu-img", "bench", "-w", "-c", "1", "-s", "64k", "--pattern", "170", base)
    create_overlay(disk, examine_image(base), None)
    accepts("qemu-img", "bench", "-w", "-c", "1", "-o", "1M", "-s", "64k", "--pattern", "85", disk)
    return disk


def bake(vm: VmFolder, disk: Path, out: Path, compress: bool = False) -> Manifest:
    return export_image(vm, disk, out, compress=compress, describe=manifest)


@pytest.mark.parametrize("name", ["x" * 226 + ".qcow2", "x" * 300 + ".qcow2", "a\nb.qcow2"])
def test_a_name_that_could_not_be_finished_or_used_is_told_before(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError):
        require_new(tmp_path / name)
    with pytest.raises(UsageError, match="there is no folder"):
        require_new(tmp_path / ("x" * 300) / "golden.qcow2")


# Making it.


@pytest.mark.parametrize("compress", [False, True])
def test_the_image_stands_by_itself_and_is_the_disk(
    tmp_path: Path, vm: VmFolder, compress: bool
) -> None:
    disk, out = overlay(tmp_path), tmp_path / "golden.qcow2"
    bake(vm, disk, out, compress)
    accepts("qemu-img", "compare", disk, out)
    info = json.loads(run_tool("qemu-img", "info", "--output=json", out).stdout)
    assert info["format"] == "qcow2"
    assert "backing-filename" not in info
    assert stat.S_IMODE(out.stat().st_mode) == 0o644
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"base.qcow2", "vm.qcow2", "golden.qcow2", "golden.manifest.json", "state"}


def test_its_manifest_says_what_it_is(tmp_path: Path, vm: VmFolder) -> None:
    out = tmp_path / "golden.qcow2"
    made = bake(vm, overlay(tmp_path), out)
    assert made.image == identify(out)
    assert made.changed == int(out.stat().st_mtime)
    assert read_manifest(out) == made
    document = json.loads((tmp_path / "golden.manifest.json").read_text())
    jsonschema.validate(document, SCHEMA, jsonschema.Draft202012Validator)
    assert undocumented(document, SCHEMA) == []
    assert stat.S_IMODE(manifest_of(out).stat().st_mode) == 0o644
    (listed,) = stored_images(tmp_path)
    assert (listed.path, listed.guest) == (out, "debian-12")


def test_what_a_plan_has_to_know_of_it(tmp_path: Path, vm: VmFolder) -> None:
    out = tmp_path / "golden.qcow2"
    bake(vm, overlay(tmp_path), out)
    assert baked_image(out) == BakedImage(
        "debian-12", "470", "470.256.02", "11.4", CudaWay.PACKAGES, ("5.2",), ("nvtop",)
    )


def test_a_crash_in_the_middle_leaves_nothing_behind_down(tmp_path: Path, vm: VmFolder) -> None:
    disk, out = overlay(tmp_path), tmp_path / "golden.qcow2"
    half = tmp_path / ".golden.qcow2.baking"

    def crash(_image: FileIdentity, _changed: int) -> Manifest:
        # As the kernel leaves it after a kill: the half-made image, and the journal.
        (tmp_path / "copy").write_bytes(half.read_bytes())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_image(vm, disk, out, compress=False, describe=crash)
    assert not half.exists()
    (tmp_path / "copy").rename(half)
    take_down(vm, lambda _what, _seconds: None)
    assert {path.name for path in tmp_path.iterdir()} == {"base.qcow2", "state"}


def test_a_disk_that_is_not_there_is_told(tmp_path: Path, vm: VmFolder) -> None:
    with pytest.raises(HypervisorError, match="qemu-img failed"):
        bake(vm, tmp_path / "none.qcow2", tmp_path / "golden.qcow2")
    assert {path.name for path in tmp_path.iterdir()} == {"state"}


def test_an_image_that_came_meanwhile_is_left_alone(tmp_path: Path, vm: VmFolder) -> None:
    disk, out = overlay(tmp_path), tmp_path / "golden.qcow2"

    def meanwhile(image: FileIdentity, changed: int) -> Manifest:
        out.write_text("somebody's")
        return manifest(image, changed)

    with pytest.raises(UsageError, match="exists already"):
        export_image(vm, disk, out, compress=False, describe=meanwhile)
    assert out.read_text() == "somebody's"
    assert not manifest_of(out).exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("golden.img", "does not end in .qcow2"),
        ("missing/golden.qcow2", "there is no folder"),
        ("there.qcow2", "exists already"),
    ],
)
def test_where_no_image_can_be_made(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "there.qcow2").touch()
    with pytest.raises(UsageError, match=words) as caught:
        require_new(tmp_path / name)
    assert caught.value.hint


@pytest.mark.parametrize("out", ["golden.qcow2", "Ubuntu 22.04 + CUDA.qcow2", "x" * 99 + ".qcow2"])
def test_the_vm_gets_a_name_from_the_image(out: str) -> None:
    check_name(default_name(Path(out)))
    assert default_name(Path(out)).startswith("bake-")


# Taking it.


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    out = qcow2(tmp_path / "golden.qcow2")
    write_manifest(out, manifest(identify(out), int(out.stat().st_mtime)))
    return out


def test_an_image_without_a_manifest_was_not_baked(tmp_path: Path) -> None:
    assert baked_image(qcow2(tmp_path / "plain.qcow2")) is None
    assert baked_image(Path("/")) is None
    with pytest.raises(HypervisorError, match="has no manifest"):
        check_image(tmp_path / "plain.qcow2")


def test_an_image_that_somebody_wrote_to_is_not_the_baked_one(golden: Path) -> None:
    accepts("qemu-img", "bench", "-w", "-c", "1", "-s", "64k", golden)
    with pytest.raises(HypervisorError, match="not any more, the image") as caught:
        baked_image(golden)
    assert "bake --check" in caught.value.hint
    with pytest.raises(HypervisorError, match="is not what was baked"):
        check_image(golden)


def test_a_copy_is_the_baked_one_when_it_was_checked(golden: Path) -> None:
    os.utime(golden, (1, 1))
    with pytest.raises(HypervisorError, match="time of change"):
        baked_image(golden)
    assert check_image(golden).changed == 1
    assert baked_image(golden) is not None


def test_one_byte_is_found_by_the_checksum_alone(golden: Path) -> None:
    """Same size, same time: only all of it tells."""
    before = golden.stat()
    with golden.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"x")
    os.utime(golden, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert baked_image(golden) is not None
    with pytest.raises(HypervisorError, match="is not what was baked"):
        check_image(golden)


def test_an_image_that_is_gone_is_told_by_who_looks_for_it(golden: Path) -> None:
    golden.unlink()
    assert baked_image(golden) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "vfio-kit/image/2"},
        {"image": None},
        {"image": {"file": "x"}},
        {"packages": [{"name": "x"}]},
        {"cuda_way": "by hand"},
        {"capabilities": 5.2},
        {"guest": 12},
        {"changed": "today"},
        {"cuda": 11.4},
        {"driver_version": ["470"]},
        {"asked_for": "nvtop"},
        {"asked_for": ["\x1b[2J"]},
        {"made_at": "\x1b[2J"},
    ],
)
def test_a_damaged_manifest_is_named(golden: Path, change: dict[str, object]) -> None:
    document = json.loads(manifest_of(golden).read_text())
    manifest_of(golden).write_text(json.dumps(document | change))
    with pytest.raises(HostError, match=r"golden\.manifest\.json is damaged: "):
        read_manifest(golden)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff"])
def test_a_manifest_that_is_none_is_named(golden: Path, text: str) -> None:
    manifest_of(golden).write_bytes(text.encode("latin-1"))
    with pytest.raises(HostError, match="is damaged: "):
        read_manifest(golden)


def test_keys_of_a_later_version_are_no_obstacle(golden: Path) -> None:
    document = json.loads(manifest_of(golden).read_text())
    manifest_of(golden).write_text(json.dumps({**document, "weather": "fine"}))
    assert read_manifest(golden) is not None


# What is in the guest, and its sealing.


def test_the_shell_in_the_guest_is_sound() -> None:
    accepts("shellcheck", "--severity=warning", SEAL)
    accepts("shellcheck", "--shell=sh", "--severity=warning", "-", stdin=INVENTORY)


def test_this_machine_has_an_inventory() -> None:
    """Debian or Ubuntu, as wherever the tests run."""
    found = take_inventory(LocalRunner(), 30)
    assert found.kernel == os.uname().release
    names = {package.name for package in found.packages}
    assert {"dpkg", "bash"} <= names
    assert all(package.version and package.architecture for package in found.packages)


def test_an_inventory_is_read() -> None:
    text = "system 1\nDebian\nkernel 1\n6.1\nmodule 2\n470.1\n470.2\npackages 1\na 1:2 all\n"
    assert parse_inventory(text) == Inventory(
        "Debian", "6.1", "470.2", (InstalledPackage("a", "1:2", "all"),)
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "system 1\nDebian\n",
        "system 0\nkernel 1\n6\nmodule 0\npackages 0\n",
        "system 1\nDebian\nkernel 1\n6.1\nmodule 0\npackages 1\na 1\n",
        "nonsense\n",
    ],
)
def test_what_is_no_inventory_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not "):
        parse_inventory(text)


@pytest.fixture
def sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sudo that lets everybody do everything as they are."""
    (tmp_path / "sudo").write_text('#!/bin/sh\n[ "$1" = -n ] && shift && exec "$@"\n')
    (tmp_path / "sudo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.usefixtures("sudo")
def test_a_guest_that_is_sealed_says_so_last() -> None:
    seal(LocalRunner(), 'echo "gone: $1"; echo sealed', "debian", 30)


@pytest.mark.usefixtures("sudo")
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo half way; echo 'seal: no' >&2; exit 1", "seal: no"),
        ("echo half way", "half way"),
        ("exit 7", "exit 7"),
    ],
)
def test_a_guest_whose_sealing_fails_gives_no_image(script: str, reason: str) -> None:
    with pytest.raises(NotSealed) as caught:
        seal(LocalRunner(), script, "debian", 30)
    assert caught.value.exit_code == 3
    assert caught.value.message == f"the guest could not be sealed: {reason}"


def test_a_vm_that_switches_itself_off_is_waited_for() -> None:
    with Hypervisor("test:///default") as hypervisor:
        hypervisor.destroy("test")
        wait_until_off(hypervisor, "test", time.monotonic() + 5)
        wait_until_off(hypervisor, "no such VM", time.monotonic() + 5)


def test_a_vm_that_stays_on_is_told() -> None:
    with (
        Hypervisor("test:///default") as hypervisor,
        pytest.raises(HypervisorError, match="does not switch itself off: it is running"),
    ):
        wait_until_off(hypervisor, "test", time.monotonic() + 0.3)


@pytest.mark.parametrize(
    ("software", "least", "most"),
    [
        (Software("none"), 200, 300),
        (Software("none", packages=("nvtop",)), 1000, 1500),
        (Software("470"), 2048 + 256, 4096),
        (Software("470", "11.4"), 6000, 10 * 1024),
        (Software("470", "11.4", CudaWay.RUNFILE), 10 * 1024, 20 * 1024),
        (Software("470", "11.4", CudaWay.RUNFILE, packages=("nvtop",), baked=True), 200, 300),
    ],
)
def test_the_room_that_is_asked_for_grows_with_the_software(
    software: Software, least: int, most: int
) -> None:
    assert least <= disk_mib(software) <= most
