"""`up`: what it does about what is there already, before it begins.

Real folders and journals; there is neither libvirt nor a GPU here, so what goes on from there is
refused, and shown to work in the virtual host (tests/lab).
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from tests.unit.test_cli import vfio_kit
from tests.unit.test_journal import RECORD
from tests.unit.test_locks import another_holds
from vfio_kit.apply.bounded import Hung
from vfio_kit.apply.journal import VmFolder
from vfio_kit.apply.locks import holder_of
from vfio_kit.cli.hung import naming_holders
from vfio_kit.errors import HypervisorError
from vfio_kit.model.vm import StepKind

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="up needs root")

MADE = replace(RECORD, plan="5d41402abc4b2a76b9719d911017c592")


@pytest.fixture
def vm(tmp_path: Path) -> VmFolder:
    folder = VmFolder(tmp_path / "state" / "vm")
    folder.create(MADE)
    folder.begin(StepKind.STATE, {})
    folder.done(StepKind.STATE)
    return folder


@pytest.fixture
def up(tmp_path: Path) -> Callable[..., Result]:
    words = ("--gpu", "01:00.0", "--image", tmp_path / "image", "--state-dir", tmp_path / "state")
    return lambda name="vm", *more: vfio_kit("up", name, *words, *more)


def test_a_vm_that_is_up_is_said_to_be(vm: VmFolder, up: Callable[..., Result]) -> None:
    """Before it is said that a VM has the GPU, which is that very one."""
    vm.begin(StepKind.START, {})
    vm.begin(StepKind.WAIT, {})
    vm.done(StepKind.WAIT)
    result = up()
    assert result.exit_code == 2
    assert "'vm' is up, or switched off, already" in result.stderr
    assert "vfio-kit down vm takes it away" in result.stderr
    assert len(vm.outstanding()) == 3


def test_one_of_an_older_version_is_not_taken_for_half_done(
    vm: VmFolder, up: Callable[..., Result]
) -> None:
    """Its journal knows no waiting."""
    vm.save(RECORD)
    vm.begin(StepKind.KEYS, {"files": []})
    assert up().exit_code == 2
    assert len(vm.outstanding()) == 2


def test_what_is_half_up_is_taken_down_first(vm: VmFolder, up: Callable[..., Result]) -> None:
    disk = vm.path.parent / "vm.qcow2"
    disk.touch()
    vm.begin(StepKind.DISK, {"files": [str(disk)]})
    result = up()
    assert "an earlier vm came to the middle of the step disk; it is taken down first" in (
        result.stderr
    )
    assert "overlay removed" in result.stderr
    assert not disk.exists()
    assert vm.outstanding() == []
    assert result.exit_code not in (0, 1)  # there is no such GPU here


def test_what_is_half_down_is_taken_down_to_the_end(
    vm: VmFolder, up: Callable[..., Result]
) -> None:
    vm.begin(StepKind.KEYS, {"files": []})
    vm.begin(StepKind.WAIT, {})
    vm.done(StepKind.WAIT)
    vm.begin_down()
    assert "an earlier vm was not taken down to the end" in up().stderr
    assert vm.outstanding() == []


def test_a_damaged_journal_is_left_alone(vm: VmFolder, up: Callable[..., Result]) -> None:
    (vm.path / "journal.jsonl").write_text("nonsense\n")
    result = up()
    assert result.exit_code == 4
    assert "journal.jsonl:1 is damaged" in result.stderr


def test_a_journal_without_a_record_is_left_to_down(
    vm: VmFolder, up: Callable[..., Result]
) -> None:
    (vm.path / "vm.json").unlink()
    result = up()
    assert result.exit_code == 4
    assert "vfio-kit down vm" in result.stderr
    assert len(vm.outstanding()) == 1


def test_two_at_once_for_one_name(vm: VmFolder, up: Callable[..., Result]) -> None:
    with another_holds(vm.path, "vfio-kit", "up", "vm") as other:
        result = up()
    assert result.exit_code == 4
    assert f"process {other.pid} (vfio-kit up vm) is at work on the VM 'vm'" in result.stderr
    assert holder_of(vm.path) is None


def test_two_at_once_for_one_gpu(vm: VmFolder, up: Callable[..., Result]) -> None:
    with another_holds(vm.path, "vfio-kit", "up", "vm") as other:
        result = up("second")
    assert result.exit_code == 3
    assert (
        f"0000:01:00.0 belongs to the VM 'vm', which process {other.pid} (vfio-kit up vm) "
        "is at work on"
    ) in result.stderr
    assert not (vm.path.parent / "second").exists()


def test_a_dry_run_is_what_plan_is(tmp_path: Path) -> None:
    """On a host without the GPU it is refused with the same words, and nobody need be root."""
    words = ("--gpu", "fe:1e.0", "--image-dir", tmp_path, "--state-dir", tmp_path)
    planned, tried = vfio_kit("plan", *words), vfio_kit("up", "vm", *words, "--dry-run")
    assert (tried.exit_code, tried.stdout, tried.stderr) == (
        planned.exit_code,
        planned.stdout,
        planned.stderr,
    )
    assert planned.exit_code != 0
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_was_written_down_brings_its_options_along(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(
        json.dumps(
            {
                "schema": "vfio-kit/plan/2",
                "spec": {"name": "x", "gpus": ["0000:fe:1e.0"], "memory": 1023},
            }
        )
    )
    folders = ("--image-dir", tmp_path, "--state-dir", tmp_path)
    words = ("vm", "--plan", tmp_path / "plan.json", *folders)
    odd = vfio_kit("up", *words)
    assert odd.exit_code == 2 and "1023" in odd.stderr
    given = vfio_kit("up", *words, "--memory", "1024")
    assert "0000:fe:1e.0" in given.stderr and "1023" not in given.stderr


def test_what_is_no_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    result = vfio_kit("up", "vm", "--gpu", "01:00.0", "--plan", tmp_path / "plan.json")
    assert result.exit_code == 2
    assert "is no plan of this version" in result.stderr


def test_down_names_who_is_at_work(vm: VmFolder) -> None:
    with another_holds(vm.path, "vfio-kit", "up", "vm") as other:
        result = vfio_kit("down", "vm", "--state-dir", vm.path.parent)
    assert result.exit_code == 4
    assert f"process {other.pid} (vfio-kit up vm) is at work on the VM 'vm'" in result.stderr
    assert f"kill {other.pid}" in result.stderr


def test_of_a_call_that_hangs_it_is_said_who_has_the_devices_and_what_to_do(vm: VmFolder) -> None:
    vm.begin(StepKind.START, {"drivers": {"0000:fe:1e.0": "nouveau"}})
    with pytest.raises(HypervisorError) as caught, naming_holders(vm):
        raise Hung("libvirt's attempt to start vm has not ended within 120 s", "see dmesg")
    assert (caught.value.exit_code, caught.value.message) == (
        5,
        "libvirt's attempt to start vm has not ended within 120 s",
    )
    assert caught.value.hint.splitlines() == [
        "no process is seen with its devices open, and of a driver that is letting go none can be; "
        "look: ls -l /proc/[0-9]*/fd 2>/dev/null | grep -e /dev/snd -e /dev/dri -e /dev/nvidia",
        "see dmesg",
        "when it lets go, or after a reboot of the host: vfio-kit down vm; it may be repeated",
    ]
