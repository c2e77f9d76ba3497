"""What another VM has or is about to have, by what was written down of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.test_journal import RECORD
from tests.unit.test_locks import another_holds
from vfio_kit.apply.claims import added_hugepages, claims_of, require_unclaimed
from vfio_kit.apply.journal import VmFolder, VmRecord
from vfio_kit.cli.spec_options import claims_beside
from vfio_kit.errors import HostError, Refused
from vfio_kit.knowledge.findings import HELD_OPEN
from vfio_kit.model import PciAddress
from vfio_kit.model.placement import Claim
from vfio_kit.model.vm import DeviceIdentity, StepKind

GPU, AUDIO = PciAddress(0, 1, 0, 0), PciAddress(0, 1, 0, 1)
OTHER = replace(
    RECORD,
    name="other",
    devices=(
        DeviceIdentity(GPU, "10de:13f1", "nouveau", "GM204GL [Quadro M4000]"),
        DeviceIdentity(AUDIO, "10de:0fbb", "snd_hda_intel", None),
    ),
    memory_mib=4096,
    page_kib=2048,
    pages=((0, 1024), (1, 1024)),
    cpus=(2, 3),
)
HAS = Claim("other", frozenset({GPU, AUDIO}), frozenset({2, 3}))
WILL_TAKE = replace(HAS, memory_mib=((0, 2048), (1, 2048)))


def half_up(state: Path, record: VmRecord = OTHER) -> VmFolder:
    folder = VmFolder(state / record.name)
    folder.create(record)
    folder.begin(StepKind.STATE, {})
    return folder


def started(folder: VmFolder, *addresses: str) -> None:
    folder.begin(StepKind.START, {"drivers": dict.fromkeys(addresses)})


def test_a_vm_that_is_not_started_yet_will_take_its_memory(tmp_path: Path) -> None:
    half_up(tmp_path)
    assert claims_of(tmp_path) == (WILL_TAKE,)


def test_one_that_was_started_has_taken_it(tmp_path: Path) -> None:
    started(half_up(tmp_path), "0000:01:00.0", "0000:01:00.1")
    assert claims_of(tmp_path) == (HAS,)


def test_one_without_hugepages_takes_none(tmp_path: Path) -> None:
    half_up(tmp_path, replace(OTHER, page_kib=None, pages=()))
    assert claims_of(tmp_path) == (HAS,)


def test_files_are_written_for_a_gpu_that_a_vm_has_and_beside_its_cpus(tmp_path: Path) -> None:
    """`render`: for later, as where a process has the device open."""
    half_up(tmp_path)
    assert claims_beside(tmp_path, "vm", frozenset()) == (WILL_TAKE,)
    written = claims_beside(tmp_path, "vm", frozenset({HELD_OPEN.code}))
    assert written == (replace(WILL_TAKE, functions=frozenset()),)
    assert claims_beside(tmp_path, "other", frozenset()) == ()


def test_one_that_is_down_claims_nothing(tmp_path: Path) -> None:
    half_up(tmp_path).undone(StepKind.STATE)
    assert claims_of(tmp_path) == ()


def test_no_vm_stands_in_its_own_way(tmp_path: Path) -> None:
    half_up(tmp_path)
    half_up(tmp_path, replace(RECORD, name="third", gpus=()))
    assert claims_of(tmp_path, but="other") == (Claim("third"),)


def test_a_record_of_an_older_version_names_its_gpus_alone(tmp_path: Path) -> None:
    half_up(tmp_path, RECORD)
    assert claims_of(tmp_path) == (Claim("vm", frozenset({GPU})),)


@pytest.mark.parametrize("record", [None, b"", b"{]"], ids=["none", "empty", "damaged"])
def test_without_a_record_the_journal_says_what_was_moved(
    tmp_path: Path, record: bytes | None
) -> None:
    folder = half_up(tmp_path)
    started(folder, "0000:01:00.0", "0000:01:00.1", "nonsense")
    (folder.path / "vm.json").unlink()
    if record is not None:
        (folder.path / "vm.json").write_bytes(record)
    assert claims_of(tmp_path) == (Claim("other", frozenset({GPU, AUDIO})),)


def test_without_a_journal_that_can_be_read_the_record_says_it(tmp_path: Path) -> None:
    folder = half_up(tmp_path)
    (folder.path / "journal.jsonl").write_text("nonsense\n")
    assert claims_of(tmp_path) == (HAS,)


def test_of_one_that_is_damaged_altogether_nothing_is_claimed(tmp_path: Path) -> None:
    folder = half_up(tmp_path)
    (folder.path / "journal.jsonl").write_text("nonsense\n")
    (folder.path / "vm.json").write_text("nonsense")
    assert claims_of(tmp_path) == ()


def test_a_state_directory_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(HostError):
        claims_of(tmp_path / "state")
    assert claims_of(tmp_path / "none") == ()


def test_what_others_added_to_the_pools_is_known(tmp_path: Path) -> None:
    folder = half_up(tmp_path)
    data = {"size_kib": 2048, "boot": "b", "nodes": {"0": {"count": 4, "before": 1}}}
    folder.begin(StepKind.HUGEPAGES, data)
    older = half_up(tmp_path, replace(RECORD, name="older"))
    older.begin(StepKind.HUGEPAGES, {"size_kib": 2048, "boot": "b", "count": 2, "before": 0})
    (half_up(tmp_path, replace(RECORD, name="bad")).path / "journal.jsonl").write_text("no\n")
    first, second = added_hugepages(tmp_path)
    assert second == data
    pool = first["nodes"]["any"]
    assert (first["boot"], pool["count"], pool["before"]) == ("b", 2, 0)
    assert added_hugepages(tmp_path, but="older") == (data,)
    folder.undone(StepKind.HUGEPAGES)
    assert added_hugepages(tmp_path, but="older") == ()


def test_a_gpu_of_another_vm_is_refused_with_its_name(tmp_path: Path) -> None:
    half_up(tmp_path)
    with pytest.raises(Refused) as caught:
        require_unclaimed(tmp_path, "mine", [(AUDIO, None), (GPU, "Quadro M4000")])
    assert caught.value.message == "0000:01:00.0 (Quadro M4000) belongs to the VM 'other'"
    assert caught.value.hint == "end that VM first: vfio-kit down other"
    require_unclaimed(tmp_path, "other", [(GPU, None)])
    require_unclaimed(tmp_path, "mine", [(PciAddress(0, 2, 0, 0), None)])


@pytest.mark.edge
def test_a_process_that_is_at_work_on_that_vm_is_named(tmp_path: Path) -> None:
    folder = half_up(tmp_path)
    with (
        another_holds(folder.path, "vfio-kit", "up", "other") as other,
        pytest.raises(Refused) as caught,
    ):
        require_unclaimed(tmp_path, "mine", [(GPU, None)])
    assert caught.value.message == (
        f"0000:01:00.0 belongs to the VM 'other', which process {other.pid} (vfio-kit up other) "
        "is at work on"
    )
