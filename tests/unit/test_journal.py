"""The journal: what was begun and not undone is known after any crash."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from vfio_kit.apply.files import write_file
from vfio_kit.apply.journal import Entry, VmFolder, VmRecord, folders
from vfio_kit.errors import HostError, UsageError
from vfio_kit.model import PciAddress
from vfio_kit.model.health import Planned
from vfio_kit.model.placement import Hugepages
from vfio_kit.model.vm import DeviceIdentity, StepKind

RECORD = VmRecord(
    name="vm",
    uuid="86a4cc5a-31b4-55f7-b0f4-8fd81f88ec9f",
    guest="ubuntu-22.04",
    user="ubuntu",
    gpus=("0000:01:00.0",),
    network="default",
    mac="52:54:00:52:71:3a",
    console_log="/var/log/libvirt/qemu/vm.console",
)


@pytest.fixture
def vm(tmp_path: Path) -> VmFolder:
    folder = VmFolder(tmp_path / "state" / "vm")
    folder.create(RECORD)
    return folder


def journal(vm: VmFolder) -> Path:
    return vm.path / "journal.jsonl"


def steps(vm: VmFolder) -> list[StepKind]:
    return [entry.step for entry in vm.outstanding()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_step_that_was_begun_is_outstanding_with_what_its_undoing_needs(vm: VmFolder) -> None:
    vm.begin(StepKind.HUGEPAGES, {"count": 12, "size_kib": 2048})
    assert vm.outstanding() == [Entry(StepKind.HUGEPAGES, {"count": 12, "size_kib": 2048})]


def test_a_step_that_is_done_is_still_to_be_undone(vm: VmFolder) -> None:
    vm.begin(StepKind.DISK, {"files": ["/x"]})
    vm.done(StepKind.DISK)
    assert vm.outstanding() == [Entry(StepKind.DISK, {"files": ["/x"]}, done=True)]


def test_a_step_that_was_undone_is_not(vm: VmFolder) -> None:
    vm.begin(StepKind.DISK, {})
    vm.begin(StepKind.SEED, {})
    vm.undone(StepKind.DISK)
    assert steps(vm) == [StepKind.SEED]


def test_steps_come_in_the_order_of_their_beginning(vm: VmFolder) -> None:
    order = [StepKind.START, StepKind.DISK, StepKind.HUGEPAGES]
    for step in order:
        vm.begin(step, {})
        vm.done(step)
    assert steps(vm) == order


def test_a_step_that_is_begun_again_has_its_new_data_and_place(vm: VmFolder) -> None:
    """On another boot: the pages and the drivers of the last one are gone."""
    for step in (StepKind.HUGEPAGES, StepKind.START):
        vm.begin(step, {"boot": "last"})
        vm.done(step)
    vm.begin(StepKind.HUGEPAGES, {"boot": "this"})
    assert vm.outstanding() == [
        Entry(StepKind.START, {"boot": "last"}, done=True),
        Entry(StepKind.HUGEPAGES, {"boot": "this"}),
    ]


def test_a_step_that_was_undone_and_is_done_again_goes_to_the_end(vm: VmFolder) -> None:
    for step in (StepKind.HUGEPAGES, StepKind.START):
        vm.begin(step, {})
    vm.undone(StepKind.HUGEPAGES)
    vm.begin(StepKind.HUGEPAGES, {})
    assert steps(vm) == [StepKind.START, StepKind.HUGEPAGES]


def test_that_all_is_being_undone_is_written_down(vm: VmFolder) -> None:
    vm.begin(StepKind.DISK, {})
    assert not vm.going_down()
    vm.begin_down()
    assert VmFolder(vm.path).going_down()
    assert steps(vm) == [StepKind.DISK]
    vm.undone(StepKind.DISK)
    assert not vm.going_down()
    vm.create(RECORD)
    vm.begin(StepKind.DISK, {})
    assert not vm.going_down()


def test_undoing_what_never_began_changes_nothing(vm: VmFolder) -> None:
    vm.begin(StepKind.DISK, {})
    vm.undone(StepKind.SEED)
    assert steps(vm) == [StepKind.DISK]


def test_a_new_process_knows_what_the_old_one_did(vm: VmFolder) -> None:
    vm.begin(StepKind.DISK, {"files": ["/ä\n"]})
    assert VmFolder(vm.path).outstanding() == [Entry(StepKind.DISK, {"files": ["/ä\n"]})]


def test_a_vm_that_is_made_again_begins_a_new_journal(vm: VmFolder) -> None:
    vm.begin(StepKind.DISK, {})
    vm.create(RECORD)
    assert vm.outstanding() == []


def test_every_line_says_its_version_step_and_phase(vm: VmFolder) -> None:
    vm.begin(StepKind.DISK, {"files": ["/x"]})
    vm.done(StepKind.DISK)
    vm.undone(StepKind.DISK)
    events = [json.loads(line) for line in journal(vm).read_text().splitlines()]
    assert [(e["version"], e["step"], e["phase"]) for e in events] == [
        (3, "disk", "begin"),
        (3, "disk", "done"),
        (3, "disk", "undone"),
    ]
    assert events[0]["data"] == {"files": ["/x"]}
    assert all(event["time"] > 1_700_000_000 for event in events)


def test_a_last_line_that_was_torn_by_a_crash_never_happened(vm: VmFolder) -> None:
    vm.begin(StepKind.DISK, {})
    whole = journal(vm).read_bytes()
    vm.begin(StepKind.SEED, {"files": ["/seed.iso"]})
    line = journal(vm).read_bytes()[len(whole) :]
    for length in range(len(line)):
        journal(vm).write_bytes(whole + line[:length])
        assert steps(vm) == [StepKind.DISK]


@pytest.mark.parametrize(
    "damage", [b"{]\n", b"\n", b"nonsense\n", b'{"version": 1, "step"\n', b"\x00\x00\x00\n"]
)
def test_a_damaged_line_is_named_by_its_number(vm: VmFolder, damage: bytes) -> None:
    vm.begin(StepKind.DISK, {})
    whole = journal(vm).read_bytes()
    journal(vm).write_bytes(whole + damage + whole)
    with pytest.raises(HostError) as caught:
        vm.outstanding()
    assert caught.value.message.startswith(f"{journal(vm)}:2 is damaged: ")
    assert caught.value.hint == "vfio-kit repair vm says what is left to do"


@pytest.mark.parametrize("version", [1, 4, None, "2"])
def test_a_journal_of_another_version_is_left_to_its_own_program(
    vm: VmFolder, version: object
) -> None:
    line = json.dumps({"version": version, "step": "disk", "phase": "begin", "data": {}})
    journal(vm).write_text(line + "\n")
    with pytest.raises(HostError) as caught:
        vm.outstanding()
    assert caught.value.message == f"{journal(vm)}:1 has version {version!r}"
    assert caught.value.hint == "use the vfio-kit that wrote it"


def test_a_journal_of_version_2_is_read(vm: VmFolder) -> None:
    line = {"version": 2, "time": 1.0, "step": "disk", "phase": "begin", "data": {"files": []}}
    journal(vm).write_text(json.dumps(line) + "\n")
    vm.done(StepKind.DISK)
    assert vm.outstanding() == [Entry(StepKind.DISK, {"files": []}, done=True)]


def test_a_record_comes_back_as_it_was(vm: VmFolder) -> None:
    assert vm.record() == RECORD


def test_what_a_vm_was_made_with_is_written_down_for_its_verification(vm: VmFolder) -> None:
    made = replace(RECORD, functions=("10de:13f1", "10de:0fbb"), driver="580-open", cuda="12.8")
    vm.save(made)
    assert vm.record() == made
    assert vm.record().planned == Planned(("10de:13f1", "10de:0fbb"), 1, "580")
    assert replace(made, driver="none").planned == Planned(("10de:13f1", "10de:0fbb"), 1)


def test_a_record_from_before_that_was_written_down_is_still_read(vm: VmFolder) -> None:
    document = json.loads((vm.path / "vm.json").read_text())
    first = ("name", "uuid", "guest", "user", "gpus", "network", "mac", "console_log", "address")
    for key in document.keys() - {*first}:
        del document[key]
    (vm.path / "vm.json").write_text(json.dumps({**document, "schema": "vfio-kit/vm/1"}))
    assert vm.record() == RECORD
    assert vm.record().planned == Planned((), 1)


def test_all_of_a_record_is_written_down(vm: VmFolder) -> None:
    device = DeviceIdentity(
        PciAddress(0, 1, 0, 0),
        "10de:13f1",
        "nouveau",
        "GM204GL [Quadro M4000]",
        "10de:1153",
        0x030000,
        6,
        (PciAddress(0, 0, 1, 0),),
        1,
    )
    whole = VmRecord(
        name="vm",
        uuid=RECORD.uuid,
        guest="debian-12",
        user="debian",
        gpus=("0000:01:00.0",),
        network="default",
        mac=RECORD.mac,
        console_log=RECORD.console_log,
        address="192.168.122.7",
        functions=("10de:13f1",),
        driver="470",
        cuda="11.4",
        devices=(device, replace(device, driver=None, numa_node=None, upstream=())),
        memory_mib=8192,
        page_kib=2048,
        pages=((0, 4096),),
        cpus=(2, 3, 34, 35),
        autostart=True,
        identity="/root/.ssh/id_ed25519",
        plan="5d41402abc4b2a76b9719d911017c592",
        disk="/images/vm.qcow2",
        seed="/images/vm-seed.iso",
        bundle="/images/vm-bundle.iso",
    )
    assert all(getattr(whole, field.name) for field in fields(whole)), "a field was forgotten"
    vm.save(whole)
    assert VmFolder(vm.path).record() == whole
    assert vm.login_key(whole) == Path("/root/.ssh/id_ed25519")
    assert vm.login_key(RECORD) == vm.identity
    assert whole.hugepages == Hugepages(2048, 4096, 1)
    assert RECORD.hugepages is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("functions", "10de:13f1"),
        ("functions", [1]),
        ("driver", 470),
        ("gpus", None),
        ("memory_mib", "8192"),
        ("memory_mib", True),
        ("page_kib", 2.0),
        ("autostart", 1),
        ("pages", [[0, "1"]]),
        ("devices", {}),
        ("devices", [[]]),
    ],
)
def test_a_record_with_a_value_of_another_type_is_damaged(
    vm: VmFolder, key: str, value: object
) -> None:
    document = json.loads((vm.path / "vm.json").read_text())
    (vm.path / "vm.json").write_text(json.dumps({**document, key: value}))
    with pytest.raises(HostError, match="is damaged: a value is of another type"):
        vm.record()


def test_an_unknown_vm_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        VmFolder(tmp_path / "ghost").record()
    assert caught.value.message == "no VM 'ghost' here"
    assert not VmFolder(tmp_path / "ghost").exists()
    assert VmFolder(tmp_path / "ghost").outstanding() == []


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "is damaged"),
        (b"{]", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[]", "is damaged: it is not of the schema vfio-kit/vm/2"),
        (b"{}", "is damaged: it is not of the schema vfio-kit/vm/2"),
        (b'{"schema": "vfio-kit/vm/3"}', "is damaged: it is not of the schema vfio-kit/vm/2"),
        (b'{"schema": "vfio-kit/vm/1"}', "is damaged: "),
        (b'{"schema": "vfio-kit/vm/2", "colour": "red"}', "nobody knows its key 'colour'"),
        (b'{"schema": "vfio-kit/vm/2", "devices": [{"address": "here"}]}', "is damaged: "),
        (b'{"schema": "vfio-kit/vm/2", "devices": [{"colour": "red"}]}', "is damaged: "),
    ],
)
def test_a_record_that_makes_no_sense_is_named(vm: VmFolder, document: bytes, words: str) -> None:
    (vm.path / "vm.json").write_bytes(document)
    with pytest.raises(HostError) as caught:
        vm.record()
    assert str(vm.path / "vm.json") in caught.value.message
    assert words in caught.value.message


def test_nobody_else_reads_any_of_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        vm = VmFolder(tmp_path / "state" / "vm")
        with vm.locked():
            vm.create(RECORD)
            vm.begin(StepKind.DISK, {})
    finally:
        os.umask(before)
    assert {path.name: mode(path) for path in vm.path.iterdir()} == {
        "vm.json": 0o600,
        "journal.jsonl": 0o600,
    }
    assert mode(vm.path) == mode(vm.path.parent) == 0o700


_HOLD = """
import sys
from dataclasses import fields, replace
from pathlib import Path
from vfio_kit.apply.journal import VmFolder
with VmFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_at_work_on_the_vm_is_noticed(vm: VmFolder) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, vm.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin and other.stdout
        assert other.stdout.readline() == "held\n"
        holder = vm.holder()
        assert holder is not None and holder.pid == other.pid
        with pytest.raises(HostError) as caught, vm.locked():
            pytest.fail("two hold the lock")
        # Another VM is another lock.
        with VmFolder(vm.path.parent / "vm2").locked():
            pass
        other.stdin.close()
        assert other.wait(10) == 0
    assert caught.value.message.startswith(f"process {other.pid} (")
    assert caught.value.message.endswith(") is at work on the VM 'vm'")
    assert caught.value.hint.startswith(f"wait for it, or end it: kill {other.pid}; ")
    assert vm.holder() is None
    with vm.locked():
        pass


def test_a_lock_is_given_back_when_its_holder_is_killed(vm: VmFolder) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, vm.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        other.kill()
    with vm.locked():
        pass


def test_a_lock_is_given_back_after_an_error(vm: VmFolder) -> None:
    with pytest.raises(ZeroDivisionError), vm.locked():
        raise ZeroDivisionError
    with vm.locked():
        pass


def test_a_folder_into_which_nothing_came_goes_with_its_lock(tmp_path: Path) -> None:
    vm = VmFolder(tmp_path / "state" / "vm")
    with vm.locked():
        assert mode(vm.path) == 0o700
    assert list(vm.path.parent.iterdir()) == []
    with pytest.raises(ZeroDivisionError), vm.locked():
        raise ZeroDivisionError
    assert list(vm.path.parent.iterdir()) == []


def test_a_folder_into_which_something_came_stays(tmp_path: Path) -> None:
    vm = VmFolder(tmp_path / "state" / "vm")
    with vm.locked():
        vm.create(RECORD)
    assert tree_of(vm.path.parent) == ["vm", "vm/vm.json"]


def tree_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_one_that_is_refused_leaves_the_other_its_lock(tmp_path: Path) -> None:
    vm = VmFolder(tmp_path / "state" / "vm")
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, vm.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        try:
            for _ in range(2):
                with pytest.raises(HostError, match="at work"), vm.locked():
                    pytest.fail("two hold the lock")
        finally:
            other.kill()


def test_the_lock_of_a_vm_that_is_gone_goes_too(vm: VmFolder) -> None:
    with vm.locked():
        vm.purge()
    assert list(vm.path.parent.iterdir()) == []


def test_a_purge_removes_all_that_was_written_and_may_be_repeated(vm: VmFolder) -> None:
    vm.begin(StepKind.DISK, {})
    write_file(vm.identity, b"key")
    write_file(vm.known_hosts, b"vm ssh-ed25519 AAAA\n")
    vm.purge()
    assert not vm.path.exists()
    vm.purge()


def test_a_purge_leaves_what_somebody_else_put_there(vm: VmFolder) -> None:
    (vm.path / "notes.txt").write_text("mine")
    with pytest.raises(HostError) as caught:
        vm.purge()
    assert f"cannot remove {vm.path}" in caught.value.message
    assert (vm.path / "notes.txt").read_text() == "mine"


def test_every_folder_of_a_vm_is_listed_and_says_what_is_to_undo(tmp_path: Path) -> None:
    for name in ("up", "half", "down"):
        folder = VmFolder(tmp_path / name)
        folder.create(replace(RECORD, name=name))
        folder.begin(StepKind.DISK, {})
        if name == "down":
            folder.undone(StepKind.DISK)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a-file").touch()
    found = {folder.name: bool(folder.outstanding()) for folder in folders(tmp_path)}
    assert found == {"down": False, "half": True, "up": True}


def test_no_state_directory_means_no_vms(tmp_path: Path) -> None:
    assert folders(tmp_path / "none") == []


def test_a_state_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(HostError):
        folders(tmp_path / "state")


def test_a_disk_without_room_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    with pytest.raises(HostError) as caught:
        VmFolder(tmp_path).begin(StepKind.DISK, {})
    assert "No space left on device" in caught.value.message
    assert caught.value.hint == f"make room: df -h {tmp_path}"
