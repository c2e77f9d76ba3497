"""`repair`: what is left is found with real files, and mended; what may not be touched is not."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

import vfio_kit
from tests.unit.test_journal import RECORD
from tests.unit.values import host
from tests.unit.whole_vm import (
    UUID,
    XML,
    forget,
    nothing_said,
    started,
    state,
    step,
    steps,
    the_test_driver,
    this_host,
    whole_vm,
)
from vfio_kit.analysis.leftovers import State
from vfio_kit.apply import power, service
from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.journal import VmFolder
from vfio_kit.apply.repair import Found, Mended, Repair
from vfio_kit.apply.transaction import take_down
from vfio_kit.cli import _cli
from vfio_kit.cli.repair_command import document_of
from vfio_kit.errors import HostError, UsageError
from vfio_kit.knowledge.leftovers import Mend
from vfio_kit.model import Host
from vfio_kit.model.domain import DomainState
from vfio_kit.model.vm import StepKind

needs_systemctl = pytest.mark.skipif(shutil.which("systemctl") is None, reason="no systemctl")


@pytest.fixture
def libvirt() -> Iterator[Hypervisor]:
    with the_test_driver() as hypervisor:
        yield hypervisor


@pytest.fixture
def vm(tmp_path: Path, libvirt: Hypervisor) -> VmFolder:
    return whole_vm(tmp_path, libvirt)


def run(
    state_dir: Path,
    libvirt: Hypervisor | None,
    read_host: Callable[[], Host] = this_host,
    root: Path = Path("/"),
) -> Repair:
    return Repair(state_dir, libvirt, read_host, nothing_said, nothing_said, root)


def words(found: Found) -> list[str]:
    return [left.kind.word for _, several in found.vms for left in (*several,)] + [
        left.kind.word for left in found.others
    ]


def mended(vm: VmFolder, libvirt: Hypervisor | None) -> dict[str, bool]:
    """The words of what was mended, and whether it was; afterwards a second look."""
    repair = run(vm.path.parent, libvirt)
    return {each.left.kind.word: each.failure is None for each in repair.mend(repair.look())}


def left(vm: VmFolder, libvirt: Hypervisor | None) -> list[str]:
    return words(run(vm.path.parent, libvirt).look())


def test_of_a_vm_that_is_up_nothing_is_said(vm: VmFolder, libvirt: Hypervisor) -> None:
    assert left(vm, libvirt) == []
    assert mended(vm, libvirt) == {}
    assert state(libvirt) == "running"


def test_libvirt_is_asked_once_for_all_vms(vm: VmFolder, libvirt: Hypervisor) -> None:
    for name in ("b", "c"):
        folder = VmFolder(vm.path.with_name(name))
        folder.create(replace(vm.record(), name=name))
        step(folder, StepKind.STATE)
    asked: list[str] = []
    given = libvirt.domains

    class Counting(Hypervisor):
        def domains(self) -> list[DomainState]:
            asked.append("domains")
            return given()

    counting = Counting("test:///default")
    assert len(run(vm.path.parent, counting).look().vms) == 3
    assert asked == ["domains"]


def test_an_up_that_was_killed_is_taken_down(tmp_path: Path) -> None:
    vm = VmFolder(tmp_path / "state" / "vm")
    disk = tmp_path / "vm.qcow2"
    vm.create(RECORD)
    step(vm, StepKind.STATE)
    vm.begin(StepKind.DISK, {"files": [str(disk)]})
    disk.touch()
    (tmp_path / ".vm.qcow2.tmp").touch()
    assert left(vm, None) == ["half-up"]
    assert mended(vm, None) == {"half-up": True}
    assert (steps(vm), left(vm, None)) == ([], [])
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_down_that_was_killed_is_finished(tmp_path: Path) -> None:
    vm = VmFolder(tmp_path / "state" / "vm")
    vm.create(RECORD)
    step(vm, StepKind.STATE)
    step(vm, StepKind.WAIT)
    vm.begin_down()
    vm.undone(StepKind.WAIT)
    assert left(vm, None) == ["half-down"]
    assert mended(vm, None) == {"half-down": True}
    assert steps(vm) == []


def test_a_vm_that_ended_by_itself_gives_back_what_was_kept_for_it(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    libvirt.destroy("vm")
    assert left(vm, libvirt) == ["ended"]
    assert mended(vm, libvirt) == {"ended": True}
    assert left(vm, libvirt) == []
    assert StepKind.START not in steps(vm) and StepKind.DISK in steps(vm)


def test_after_a_reboot_the_others_boot_is_closed(vm: VmFolder, libvirt: Hypervisor) -> None:
    libvirt.destroy("vm")
    started(vm, boot="another")
    assert left(vm, libvirt) == ["rebooted"]
    assert mended(vm, libvirt) == {"rebooted": True}
    assert (left(vm, libvirt), state(libvirt)) == ([], "shut off")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A host that systemd runs."""
    root = tmp_path / "host"
    (root / "run/systemd/system").mkdir(parents=True)
    return root


def enable(vm: VmFolder, root: Path) -> None:
    words = ("/opt/vfio-kit",)
    service.enable(service.prepare(vm.name, vm.path.parent, (), words=words, root=root), root)


@needs_systemctl
def test_after_a_reboot_a_vm_that_the_host_should_have_started_is_started(
    vm: VmFolder, libvirt: Hypervisor, units: Path
) -> None:
    enable(vm, units)
    libvirt.destroy("vm")
    started(vm, boot="another")
    repair = run(vm.path.parent, libvirt, root=units)
    assert words(repair.look()) == ["not-started"]
    assert [each.failure for each in repair.mend(repair.look())] == [None]
    assert (words(repair.look()), state(libvirt)) == ([], "running")


@needs_systemctl
@pytest.mark.parametrize("gone", ["what it took", "its folder", "the state directory"])
def test_a_unit_of_a_vm_that_is_gone_is_taken_away(
    vm: VmFolder, libvirt: Hypervisor, units: Path, gone: str
) -> None:
    enable(vm, units)
    libvirt.destroy("vm")
    forget(libvirt)
    for kind in steps(vm):
        vm.undone(kind)
    if gone == "its folder":
        vm.purge()
    if gone == "the state directory":
        shutil.rmtree(vm.path.parent)
    repair = run(vm.path.parent, libvirt, root=units)
    assert words(repair.look()) == ["unit"]
    assert [each.failure for each in repair.mend(repair.look())] == [None]
    assert (words(repair.look()), service.enabled(root=units)) == ([], frozenset())


def test_a_card_that_is_gone_is_told_and_nothing_is_started(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    libvirt.destroy("vm")
    started(vm, boot="another")
    repair = run(vm.path.parent, libvirt, lambda: host())
    found = repair.look()
    assert words(found) == ["renumbered", "rebooted"]
    assert "there is no 0000:fe:1e.0" in found.vms[0][1][0].what
    assert [each.left.kind.word for each in repair.mend(found)] == ["rebooted"]
    assert state(libvirt) == "shut off"


def test_a_domain_that_was_undefined_is_defined_again(vm: VmFolder, libvirt: Hypervisor) -> None:
    libvirt.destroy("vm")
    forget(libvirt)
    assert left(vm, libvirt) == ["ended", "undefined"]
    assert mended(vm, libvirt) == {"ended": True, "undefined": True}
    assert (left(vm, libvirt), state(libvirt)) == ([], "shut off")


def test_a_disk_that_is_gone_is_told_and_nothing_of_the_vm_is_removed(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    libvirt.destroy("vm")
    started(vm)
    Path(vm.record().disk).unlink()
    assert left(vm, libvirt) == ["files-gone", "ended"]
    mended(vm, libvirt)
    assert left(vm, libvirt) == ["files-gone"]
    assert Path(vm.record().seed).exists() and state(libvirt) == "shut off"


@pytest.mark.parametrize("runs", [False, True])
def test_wherever_a_stop_or_a_start_was_killed_repair_brings_it_to_its_end(
    vm: VmFolder, libvirt: Hypervisor, runs: bool
) -> None:
    """The journal as it was at every moment, with a domain that runs and with one that does not."""
    file = vm.path / "journal.jsonl"
    begin = len(file.read_bytes().splitlines())
    power.put_back(vm, libvirt, nothing_said)
    power.start_again(vm, libvirt, this_host, nothing_said)
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == begin + 3  # START is undone, begun, done
    for number in range(begin, len(lines) + 1):
        libvirt.destroy("vm")
        file.write_bytes(b"".join(lines[:number]))
        if runs:
            libvirt.start("vm")
        assert all(mended(vm, libvirt).values())
        # Whether it may run without the journal's knowing is for the operator.
        expected = ["started-outside"] if runs and StepKind.START not in steps(vm) else []
        assert (left(vm, libvirt), state(libvirt)) == (
            expected,
            "running" if runs else "shut off",
        )


def test_what_cannot_be_mended_is_told_with_its_reason(vm: VmFolder, libvirt: Hypervisor) -> None:
    libvirt.destroy("vm")
    forget(libvirt)
    vm.domain_xml.write_text("<domain/>")
    repair = run(vm.path.parent, libvirt)
    results = {each.left.kind.word: each for each in repair.mend(repair.look())}
    failure = results["undefined"].failure
    assert failure is not None and "define the domain" in failure.message
    assert results["ended"] == Mended(results["ended"].left)


def test_a_vm_that_another_vfio_kit_is_at_work_on_is_left_alone(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    libvirt.destroy("vm")
    with vm.locked():
        found = run(vm.path.parent, libvirt).look()
        assert words(found) == []
        assert found.vms[0][0].holder is not None
    assert left(vm, libvirt) == ["ended"]


def test_where_another_vfio_kit_was_faster_the_rest_is_mended_all_the_same(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    libvirt.destroy("vm")
    half = VmFolder(vm.path.parent / "a")
    half.create(replace(RECORD, name="a"))
    step(half, StepKind.STATE)
    repair = run(vm.path.parent, libvirt)
    found = repair.look()
    with half.locked():
        first, second = repair.mend(found)
    assert (first.left.vm, second.left.vm) == ("a", "vm")
    assert first.failure is not None and "is at work on the VM 'a'" in first.failure.message
    assert second.failure is None and steps(half) == [StepKind.STATE]


@pytest.mark.parametrize("file", ["journal.jsonl", "vm.json"])
def test_damage_is_told_with_its_place_and_nothing_is_touched(
    vm: VmFolder, libvirt: Hypervisor, file: str
) -> None:
    path = vm.path / file
    path.write_text("garbage\n" + path.read_text())
    found = run(vm.path.parent, libvirt).look()
    ((_, (damaged,)),) = found.vms
    assert damaged.kind.word == "damaged"
    assert str(path) + (":1" if file == "journal.jsonl" else "") in damaged.what
    if file == "vm.json":
        assert damaged.remedy.startswith("vfio-kit down vm")
    else:
        assert damaged.remedy.splitlines()[:2] == ["virsh destroy vm", "virsh undefine --nvram vm"]
        assert f"rm -r {vm.path}" in damaged.remedy
    assert run(vm.path.parent, libvirt).mend(found) == ()
    assert state(libvirt) == "running"


def test_nobody_is_told_to_remove_what_a_newer_version_wrote(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    with (vm.path / "journal.jsonl").open("a") as journal:
        journal.write('{"version": 4, "phase": "down"}\n')
    ((_, (left_over,)),) = run(vm.path.parent, libvirt).look().vms
    assert left_over.kind.word == "damaged" and "has version 4" in left_over.what
    assert left_over.remedy == "use the vfio-kit that wrote it"


@contextmanager
def somebody_without_rights() -> Iterator[None]:
    """root may look into every folder; the tests may be run by root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_is_closed_to_this_user_is_not_damaged() -> None:
    with tempfile.TemporaryDirectory() as base:
        state_dir = Path(base) / "state"
        vm = VmFolder(state_dir / "vm")
        vm.create(RECORD)
        step(vm, StepKind.STATE)
        for folder, mode in ((Path(base), 0o755), (state_dir, 0o755), (vm.path, 0)):
            folder.chmod(mode)
        with somebody_without_rights():
            ((_, (closed,)),) = run(state_dir, None).look().vms
            listed = CliRunner().invoke(_cli, ["list", "--state-dir", str(state_dir)])
        vm.path.chmod(0o700)
        state_dir.chmod(0)
        with somebody_without_rights(), pytest.raises(HostError, match="cannot read"):
            run(state_dir, None).look(["vm"])
        state_dir.chmod(0o700)
    assert closed.what.endswith("Permission denied")
    assert closed.remedy == "run as root: sudo vfio-kit …"
    assert listed.exit_code == 0 and "damaged" in listed.output


def test_the_copy_of_a_folder_takes_nothing_from_the_vm_that_it_was_made_of(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    vm.save(replace(vm.record(), address=None))
    vm.begin(StepKind.WAIT, {})
    copy = shutil.copytree(vm.path, vm.path.parent / "vm.bak")
    assert left(vm, libvirt) == ["first-boot", "damaged"]
    mended(vm, libvirt)
    with pytest.raises(HostError, match="it is of the VM 'vm'"):
        take_down(VmFolder(copy), nothing_said)
    assert state(libvirt) == "running" and Path(vm.record().disk).exists()
    (_, (_, (damaged,))) = run(vm.path.parent, libvirt).look().vms
    assert damaged.remedy == f"rm -r {copy}"


def test_a_folder_that_was_renamed_is_told_to_be_named_back(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    other = vm.path.rename(vm.path.parent / "other")
    (_, (damaged,)) = run(other.parent, libvirt).look().vms[0]
    assert "it is of the VM 'vm'" in damaged.what
    assert damaged.remedy == f"mv {other} {vm.path}"


def test_what_a_crash_left_of_files_is_removed(vm: VmFolder, libvirt: Hypervisor) -> None:
    images = Path(vm.record().disk).parent
    ours = [vm.path / ".vm.json.tmp", images / ".vm-seed.iso.tmp", images / ".a.qcow2.baking"]
    theirs = [images / ".other.iso.tmp", images / "a.qcow2", vm.path / "notes"]
    for path in (*ours, *theirs):
        path.touch()
    assert left(vm, libvirt) == ["temporary", "temporary"]
    mended(vm, libvirt)
    assert left(vm, libvirt) == []
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in theirs)


def test_a_baking_that_goes_on_is_left_alone(vm: VmFolder, libvirt: Hypervisor) -> None:
    baking = Path(vm.record().disk).parent / ".a.qcow2.baking"
    with baking.open("w"):
        assert left(vm, libvirt) == []
    assert left(vm, libvirt) == ["temporary"]


def test_a_folder_with_half_a_record_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "vm"
    folder.mkdir(parents=True)
    (folder / ".vm.json.tmp").write_text("{")
    (tmp_path / "state" / "somebody-elses").mkdir()
    repair = run(tmp_path / "state", None)
    assert words(repair.look()) == ["temporary"]
    repair.mend(repair.look())
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["somebody-elses"]


def test_a_vm_that_was_named_and_is_mended_away_is_no_unknown_one(tmp_path: Path) -> None:
    """Found by an `up` that was killed while it wrote its record."""
    folder = tmp_path / "vm"
    folder.mkdir()
    (folder / ".vm.json.tmp").touch()
    repair = run(tmp_path, None)
    repair.mend(repair.look(["vm"]))
    assert repair.look_again(["vm"]) == Found(())
    with pytest.raises(UsageError):
        repair.look(["vm"])


def test_a_domain_of_ours_without_a_record_is_told(tmp_path: Path, libvirt: Hypervisor) -> None:
    libvirt.define(XML)
    repair = run(tmp_path / "state", libvirt)
    assert words(repair.look()) == ["unknown-domain"]
    assert repair.mend(repair.look()) == ()
    assert state(libvirt) == "shut off"


def test_a_domain_of_somebody_elses_is_nothing_to_us(tmp_path: Path, libvirt: Hypervisor) -> None:
    # The test driver has one that runs, called test, without our mark.
    assert libvirt.domain("test") is not None
    assert words(run(tmp_path / "state", libvirt).look()) == []


def test_only_those_that_are_named_are_looked_at(
    vm: VmFolder, libvirt: Hypervisor, tmp_path: Path
) -> None:
    libvirt.destroy("vm")
    other = VmFolder(tmp_path / "state" / "other")
    other.create(replace(RECORD, name="other"))
    step(other, StepKind.STATE)
    repair = run(vm.path.parent, libvirt)
    assert words(repair.look(["other"])) == ["half-up"]
    assert words(repair.look()) == ["half-up", "ended"]
    with pytest.raises(UsageError, match="no VM 'third' here"):
        repair.look(["third"])


def test_a_started_step_of_this_boot_keeps_the_domain_that_is_not_ours(
    vm: VmFolder, libvirt: Hypervisor
) -> None:
    libvirt.destroy("vm")
    forget(libvirt)
    libvirt.define(XML.replace(UUID, "11111111-1111-4111-8111-111111111111"))
    libvirt.start("vm")
    assert left(vm, libvirt) == ["name-taken", "ended"]
    mended(vm, libvirt)
    assert (left(vm, libvirt), state(libvirt)) == (["name-taken"], "running")


# The command: where there is no libvirt to ask, and nothing that needs it


def command(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(_cli, [str(word) for word in arguments], prog_name="vfio-kit")
    return result.exit_code, result.stdout, result.stderr


def test_all_is_well_where_there_is_nothing(tmp_path: Path) -> None:
    status, out, _ = command("repair", "--check", "--state-dir", tmp_path / "none")
    assert (status, out) == (0, "all is well: 0 VMs, nothing left over\n")


SCHEMA = json.loads(
    (Path(vfio_kit.__file__).parent / "schemas/repair-1.schema.json").read_text("utf-8")
)


def test_the_schema_knows_every_state_and_mend() -> None:
    properties = SCHEMA["properties"]
    assert properties["vms"]["items"]["properties"]["state"]["enum"] == list(State)
    assert properties["leftovers"]["items"]["properties"]["mend"]["enum"] == list(Mend)


def test_the_document_is_as_its_schema_says(vm: VmFolder, libvirt: Hypervisor) -> None:
    libvirt.destroy("vm")
    forget(libvirt)
    vm.domain_xml.write_text("<domain/>")
    (vm.path / ".vm.json.tmp").touch()
    repair = run(vm.path.parent, libvirt)
    found = repair.look()
    results = repair.mend(found)
    document = document_of(found, results, repair.look())
    jsonschema.validate(document, SCHEMA)
    assert [(left["word"], left["mended"]) for left in document["leftovers"]] == [
        ("ended", True),
        ("undefined", False),
        ("temporary", True),
    ]
    assert (document["healthy"], document["vms"]) == (False, [{"name": "vm", "state": "lost"}])
    assert "define the domain" in document["leftovers"][1]["failure"]


def test_the_json_of_nothing(tmp_path: Path) -> None:
    status, out, _ = command("repair", "--check", "--json", "--state-dir", tmp_path)
    assert status == 0
    document = json.loads(out)
    assert document.pop("seconds") >= 0
    assert [step["what"] for step in document.pop("steps")] == ["looking at the VMs"]
    assert document == {
        "schema": "vfio-kit/repair/1",
        "healthy": True,
        "vms": [],
        "leftovers": [],
    }
