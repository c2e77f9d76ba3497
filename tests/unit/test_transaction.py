"""`up` and `down` as a transaction: what was begun is undone, in reverse, and only on its own boot.

Real folders, a real journal, libvirt's own test driver; steps that would change this machine are
given data that name nothing on it.
"""

import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machines import K80
from tests.unit.test_images import qcow2
from tests.unit.test_journal import RECORD
from tests.unit.test_locks import another_holds
from tests.unit.values import function, host, spec
from vfio_kit.apply.boot import boot_id
from vfio_kit.apply.bounded import Hung
from vfio_kit.apply.bundle import examine_bundle
from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.images import examine_image
from vfio_kit.apply.journal import VmFolder, VmRecord
from vfio_kit.apply.record import plan_digest
from vfio_kit.apply.steps import STEPS, Work
from vfio_kit.apply.transaction import bring_up, take_down
from vfio_kit.errors import HostError, HypervisorError, UsageError
from vfio_kit.model.vm import RenderedFile, SeedKeys, StepKind, UpPlan
from vfio_kit.plan import make_plan

FILES = (StepKind.STATE, StepKind.KEYS, StepKind.DISK, StepKind.SEED)
"""The steps that need neither libvirt nor the kernel."""
NOBODY = "0000:fe:1e.0"
"""No machine has a function there."""
NO_SUCH_SIZE = 3
"""KiB: no kernel has hugepages of it."""


class Progress:
    """What was reported, without the seconds."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, what: str, seconds: float) -> None:
        assert seconds >= 0
        self.said.append(what)


@pytest.fixture
def vm(tmp_path: Path) -> VmFolder:
    folder = VmFolder(tmp_path / "state" / "vm")
    folder.create(RECORD)
    return folder


def begun(vm: VmFolder, step: StepKind, *names: str) -> list[Path]:
    """A step that made these files beside the state directory; a name with a / is a directory."""
    paths = [vm.path.parents[1] / name for name in names]
    vm.begin(step, {"files": [str(path) for path in paths]})
    for name, path in zip(names, paths, strict=True):
        if name.endswith("/"):
            path.mkdir()
        else:
            path.touch()
    vm.done(step)
    return paths


def steps(vm: VmFolder) -> list[StepKind]:
    return [entry.step for entry in vm.outstanding()]


# down


def test_what_was_begun_is_undone_in_reverse(vm: VmFolder) -> None:
    vm.begin(StepKind.STATE, {})
    made = [
        *begun(vm, StepKind.KEYS, "id", "known_hosts"),
        *begun(vm, StepKind.DISK, "vm.qcow2"),
        *begun(vm, StepKind.SEED, "seed.iso"),
    ]
    progress = Progress()
    take_down(vm, progress)
    assert progress.said == [
        "seed removed",
        "overlay removed",
        "keys removed",
        "closed the journal",
    ]
    assert not [path for path in made if path.exists()]
    assert vm.outstanding() == []
    # The record stays, to be read.
    assert vm.record() == RECORD


def test_taking_down_may_be_repeated(vm: VmFolder) -> None:
    begun(vm, StepKind.DISK, "vm.qcow2")
    take_down(vm, Progress())
    again = Progress()
    take_down(vm, again)
    assert again.said == []


def test_a_step_that_broke_off_in_the_middle_is_undone_as_well(vm: VmFolder) -> None:
    disk = vm.path.parents[1] / "vm.qcow2"
    vm.begin(StepKind.DISK, {"files": [str(disk)]})
    # It never made its file, but the temporary one of a write that a crash broke off is there.
    (disk.parent / ".vm.qcow2.tmp").touch()
    take_down(vm, Progress())
    assert [path.name for path in disk.parent.iterdir()] == ["state"]
    assert vm.outstanding() == []


def test_a_step_that_cannot_be_undone_does_not_keep_the_rest_from_it(vm: VmFolder) -> None:
    (keys,) = begun(vm, StepKind.KEYS, "id")
    (in_the_way,) = begun(vm, StepKind.DISK, "vm.qcow2/")
    (seed,) = begun(vm, StepKind.SEED, "seed.iso")
    progress = Progress()
    with pytest.raises(HostError) as caught:
        take_down(vm, progress)
    assert caught.value.message.startswith(f"cannot remove {in_the_way}: ")
    assert (keys.exists(), seed.exists()) == (False, False)
    assert progress.said == ["seed removed", "keys removed"]
    assert steps(vm) == [StepKind.DISK]

    in_the_way.rmdir()
    in_the_way.touch()
    take_down(vm, progress)
    assert (in_the_way.exists(), steps(vm)) == (False, [])


def test_of_several_errors_the_first_is_raised(vm: VmFolder) -> None:
    begun(vm, StepKind.KEYS, "id/")
    begun(vm, StepKind.SEED, "seed.iso/")
    with pytest.raises(HostError, match=r"seed\.iso"):
        take_down(vm, Progress())
    assert steps(vm) == [StepKind.KEYS, StepKind.SEED]


_TAKE_DOWN = """
import sys
sys.modules["libvirt"] = None  # as where the extra is not installed
from pathlib import Path
from vfio_kit.apply.journal import VmFolder, VmRecord
from vfio_kit.apply.record import plan_digest
from vfio_kit.apply.transaction import take_down
from vfio_kit.errors import VfioKitError
try:
    take_down(VmFolder(Path(sys.argv[1])), lambda what, _seconds: print(what))
except VfioKitError as error:
    print(error.message)
    sys.exit(error.exit_code)
"""


def without_libvirt(vm: VmFolder) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", _TAKE_DOWN, vm.path], check=False, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_files_are_removed_where_there_is_no_libvirt(vm: VmFolder) -> None:
    vm.begin(StepKind.STATE, {})
    vm.begin(StepKind.HUGEPAGES, pools(count=0))
    begun(vm, StepKind.DISK, "vm.qcow2")
    assert without_libvirt(vm) == (
        0,
        ["overlay removed", "hugepages given back", "closed the journal"],
    )
    assert vm.outstanding() == []


def test_a_domain_that_may_still_run_keeps_its_disk(vm: VmFolder) -> None:
    (disk,) = begun(vm, StepKind.DISK, "vm.qcow2")
    vm.begin(StepKind.DEFINE, {"domain": "vm", "uuid": RECORD.uuid})
    assert without_libvirt(vm) == (5, ["the Python module libvirt is missing"])
    assert disk.exists()
    assert steps(vm) == [StepKind.DISK, StepKind.DEFINE]


def test_what_hangs_ends_it_and_says_what_went_wrong_before(
    vm: VmFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known as a call that hangs, so that whoever prints it can say who has the devices."""

    def hang(_connect: object, _data: object) -> None:
        raise Hung("libvirt's attempt to stop vm has not ended within 120 s", "see dmesg")

    monkeypatch.setitem(STEPS, StepKind.START, replace(STEPS[StepKind.START], undo=hang))
    (disk,) = begun(vm, StepKind.DISK, "vm.qcow2")
    vm.begin(StepKind.START, {})
    begun(vm, StepKind.SEED, "seed.iso/")
    with pytest.raises(Hung) as caught:
        take_down(vm, Progress())
    assert "seed.iso: " in caught.value.message
    assert caught.value.message.endswith(
        "; libvirt's attempt to stop vm has not ended within 120 s"
    )
    assert disk.exists()
    assert steps(vm) == [StepKind.DISK, StepKind.START, StepKind.SEED]


# What the kernel is told: on the boot it was written down in, and on the same card.


def no_libvirt() -> Hypervisor:
    pytest.fail("a step that does not need libvirt asked for it")


def pools(count: int = 4, **fields: Any) -> dict[str, Any]:
    nodes = {"any": {"count": count, "before": 0}}
    return {"size_kib": NO_SUCH_SIZE, "boot": boot_id(), "nodes": nodes, **fields}


def pool_of_version_2(**fields: Any) -> dict[str, Any]:
    return {"size_kib": NO_SUCH_SIZE, "count": 4, "before": 0, "boot": boot_id(), **fields}


@pytest.mark.parametrize("data", [pools(), pool_of_version_2()], ids=["now", "version 2"])
def test_hugepages_of_this_boot_are_given_back(data: dict[str, Any]) -> None:
    with pytest.raises(HostError, match="no hugepages of 3 KiB"):
        STEPS[StepKind.HUGEPAGES].undo(no_libvirt, data)


@pytest.mark.parametrize(
    "data",
    [
        pools(boot="another"),
        pools(count=0),
        pool_of_version_2(boot="another"),
        pool_of_version_2(count=0),
    ],
    ids=str,
)
def test_hugepages_of_another_boot_or_that_were_never_added_are_left_alone(
    data: dict[str, Any],
) -> None:
    STEPS[StepKind.HUGEPAGES].undo(no_libvirt, data)


def started(**fields: Any) -> dict[str, Any]:
    """What the journal has of a start: a function that had nouveau, and is not there (any more)."""
    return {
        "domain": "no-such-domain",
        "uuid": RECORD.uuid,
        "drivers": {NOBODY: "nouveau"},
        "ids": {NOBODY: None},
        "boot": boot_id(),
        **fields,
    }


@pytest.fixture
def libvirt() -> Iterator[Hypervisor]:
    """libvirt's own test driver: one running domain, called test, that exists in memory alone."""
    with Hypervisor("test:///default") as hypervisor:
        yield hypervisor


def test_a_driver_that_does_not_come_back_is_named(libvirt: Hypervisor) -> None:
    with pytest.raises(HostError) as caught:
        STEPS[StepKind.START].undo(lambda: libvirt, started())
    assert caught.value.message == (
        f"a device did not come back: {NOBODY} has no driver, had nouveau"
    )
    assert "repeat" in caught.value.hint


def test_drivers_of_another_boot_are_left_alone(libvirt: Hypervisor) -> None:
    STEPS[StepKind.START].undo(lambda: libvirt, started(boot="another"))


def test_a_card_that_fell_off_the_bus_is_named(libvirt: Hypervisor) -> None:
    with pytest.raises(HostError) as caught:
        STEPS[StepKind.START].undo(lambda: libvirt, started(ids={NOBODY: "10de:102d"}))
    assert caught.value.message == f"a device did not come back: {NOBODY} is gone from the bus"


def test_a_journal_that_says_too_little_is_named(tmp_path: Path) -> None:
    folder = VmFolder(tmp_path / "state" / "vm")
    folder.path.mkdir(parents=True)
    folder.begin(StepKind.HUGEPAGES, {})
    with pytest.raises(HostError, match=f"the journal in {folder.path} says too little"):
        take_down(folder, lambda _what, _seconds: None)
    assert [entry.step for entry in folder.outstanding()] == [StepKind.HUGEPAGES]


def test_a_domain_of_the_same_name_that_is_not_ours_runs_on(libvirt: Hypervisor) -> None:
    (running,) = libvirt.domains()
    data = started(domain=running.name, drivers={})
    assert data["uuid"] != running.uuid
    for step in (StepKind.START, StepKind.DEFINE):
        STEPS[step].undo(lambda: libvirt, data)
    assert libvirt.domains() == [running]


MARKED = """<domain type='test'><name>ours</name><memory>1024</memory><os><type>hvm</type></os>
<metadata><vk:vm xmlns:vk='https://vfio-kit.dev/xmlns/domain/1'/></metadata></domain>"""


@pytest.fixture
def empty_libvirt(tmp_path: Path) -> Iterator[Hypervisor]:
    """Another of libvirt's test driver: what is defined there stays there."""
    (tmp_path / "node.xml").write_text("<node/>")
    with Hypervisor(f"test://{tmp_path}/node.xml") as hypervisor:
        yield hypervisor


def test_domains_that_vfio_kit_made_are_known_by_their_mark(empty_libvirt: Hypervisor) -> None:
    empty_libvirt.define(MARKED.replace("vk:vm", "theirs").replace("ours", "theirs"))
    assert empty_libvirt.marked() == []
    empty_libvirt.define(MARKED)
    assert [domain.name for domain in empty_libvirt.marked()] == ["ours"]


def test_a_domain_is_started_and_stopped_and_that_may_be_repeated(
    empty_libvirt: Hypervisor,
) -> None:
    def state() -> str | None:
        found = empty_libvirt.domain("ours")
        return None if found is None else found.state

    for change in (empty_libvirt.shutdown, empty_libvirt.destroy, empty_libvirt.undefine):
        change("ours")  # is not there: nothing to do
    with pytest.raises(HypervisorError, match="libvirt has no domain 'ours'"):
        empty_libvirt.start("ours")
    empty_libvirt.define(MARKED)
    assert state() == "shut off"
    for stop in (empty_libvirt.shutdown, empty_libvirt.destroy):
        empty_libvirt.start("ours", memory_mib=1)
        assert state() == "running"
        stop("ours")
        stop("ours")
        assert state() == "shut off"


def test_ours_is_stopped_on_any_boot(libvirt: Hypervisor) -> None:
    (running,) = libvirt.domains()
    data = started(domain=running.name, uuid=running.uuid, boot="another")
    STEPS[StepKind.START].undo(lambda: libvirt, data)
    assert [domain.state for domain in libvirt.domains()] == ["shut off"]


# up


@pytest.fixture
def work(tmp_path: Path, libvirt: Hypervisor) -> Work:
    """An `up` of those steps that stay within the folders of this test."""
    (tmp_path / "images").mkdir()
    base = qcow2(tmp_path / "base.img")
    planned = make_plan(
        host(function(NOBODY, K80, 6)),
        spec(NOBODY, image=str(base), disk=1, name="vm"),
        state_dir=str(tmp_path / "state"),
        image_dir=str(tmp_path / "images"),
    )
    wanted = tuple(step for step in planned.steps if step.kind in (*FILES, StepKind.WAIT))
    plan = replace(planned, steps=wanted)
    return Work(
        plan, VmFolder(Path(plan.state_dir)), libvirt, examine_image(base), "<domain/>", seed_of
    )


def seed_of(keys: SeedKeys) -> tuple[RenderedFile, ...]:
    return (RenderedFile("user-data", keys.host_public + "".join(keys.authorized), 0o600),)


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def public_of(key: Path) -> str:
    """As ssh-keygen sees it: the type and the key itself."""
    argv = ["ssh-keygen", "-y", "-f", str(key)]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return " ".join(said.split()[:2])


def kinds(plan: UpPlan) -> list[StepKind]:
    return [step.kind for step in plan.steps]


def test_files_on_what_is_not_mounted_are_not_taken_for_gone(vm: VmFolder) -> None:
    """As after a power cut: the host is up again, and the disk of its images is not."""
    mount = vm.path.parents[1] / "images"
    mount.mkdir()
    vm.begin(StepKind.DISK, {"files": [f"{mount}/vm.qcow2"], "mounts": ["/", str(mount)]})
    with pytest.raises(HostError) as caught:
        take_down(vm, Progress())
    assert f"no file system is mounted at {mount}, where {mount}/vm.qcow2" in caught.value.message
    assert "mount it, and repeat" in caught.value.hint
    assert steps(vm) == [StepKind.DISK]
    (mount / "vm.qcow2").touch()  # they were moved, and are there
    take_down(vm, Progress())
    assert (list(mount.iterdir()), steps(vm)) == ([], [])


def test_every_step_is_done_in_order_and_written_down(work: Work, tmp_path: Path) -> None:
    progress = Progress()
    bring_up(work, progress)
    assert tree(tmp_path) == {
        "base.img",
        "images/vm.qcow2",
        "images/vm-seed.iso",
        "state/vm/domain.xml",
        "state/vm/id_ed25519",
        "state/vm/known_hosts",
        "state/vm/journal.jsonl",
        "state/vm/vm.json",
    }
    assert steps(work.folder) == list(FILES) == kinds(work.plan)[:-1]
    assert progress.said == [step.what for step in work.plan.steps[:-1]]
    assert work.folder.record().uuid == work.plan.domain.uuid
    known = work.folder.known_hosts.read_text()
    assert known == f"vm {work.host_key.public}\n"
    assert work.client_public == f"{public_of(work.folder.identity)} vfio-kit@vm"
    assert work.folder.domain_xml.read_text() == "<domain/>"
    (disk,) = (entry for entry in work.folder.outstanding() if entry.step == StepKind.DISK)
    (mount,) = disk.data["mounts"]
    assert Path(mount).is_mount() and tmp_path.is_relative_to(mount)


def test_each_step_is_told_of_when_it_begins_and_when_it_is_done(work: Work) -> None:
    told: list[str] = []
    bring_up(
        work,
        lambda what, _seconds: told.append(f"done: {what}"),
        lambda what, _look: told.append(f"begins: {what}"),
    )
    words = [step.what for step in work.plan.steps[:-1]]
    assert told == [f"{when}: {what}" for what in words for when in ("begins", "done")]
    told.clear()
    take_down(
        work.folder,
        lambda what, _seconds: told.append(f"done: {what}"),
        begins=lambda what, _look: told.append(f"begins: {what}"),
    )
    assert told.index("begins: removing the overlay") < told.index("done: overlay removed")


@pytest.fixture
def bundled(work: Work, tmp_path: Path) -> Work:
    """The same with an offline bundle, which has an empty list of packages."""
    folder = tmp_path / "bundle"
    (folder / "apt").mkdir(parents=True)
    (folder / "apt/Packages").touch()
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256().hexdigest()}  apt/Packages\n")
    domain = replace(work.plan.domain, bundle=str(tmp_path / "images/vm-bundle.iso"))
    return replace(work, plan=replace(work.plan, domain=domain), bundle=examine_bundle(folder))


def test_the_bundle_goes_onto_a_disk_of_its_own_and_away_again(
    bundled: Work, tmp_path: Path
) -> None:
    bring_up(bundled, Progress())
    assert "images/vm-bundle.iso" in tree(tmp_path)
    take_down(bundled.folder, Progress())
    assert not [name for name in tree(tmp_path) if name.endswith(".iso")]


def test_a_bundle_that_changed_since_it_was_looked_at_is_not_handed_over(
    bundled: Work, tmp_path: Path
) -> None:
    (tmp_path / "bundle/apt/Packages").write_text("another one")
    with pytest.raises(HypervisorError, match="is damaged: apt/Packages"):
        bring_up(bundled, Progress())
    assert "images/vm-bundle.iso" not in tree(tmp_path)


def test_down_leaves_only_what_is_kept_to_be_read(work: Work, tmp_path: Path) -> None:
    before = (tmp_path / "base.img").read_bytes()
    bring_up(work, Progress())
    take_down(work.folder, Progress())
    assert tree(tmp_path) == {
        "base.img",
        "state/vm/domain.xml",
        "state/vm/journal.jsonl",
        "state/vm/vm.json",
    }
    assert (tmp_path / "base.img").read_bytes() == before
    with work.folder.locked():
        work.folder.purge()
    assert tree(tmp_path) == {"base.img"}


def test_a_file_of_somebody_elses_stops_it_and_is_not_undone(work: Work, tmp_path: Path) -> None:
    theirs = Path(work.plan.domain.seed)
    theirs.write_text("theirs")
    with pytest.raises(UsageError) as caught:
        bring_up(work, Progress())
    assert caught.value.message.startswith(f"{theirs} exists already")
    assert steps(work.folder) == [StepKind.STATE, StepKind.KEYS, StepKind.DISK]
    take_down(work.folder, Progress())
    assert theirs.read_text() == "theirs"
    assert not Path(work.plan.domain.disk).exists()


def test_a_step_that_fails_halfway_is_written_down_before(work: Work) -> None:
    Path(work.image.path).unlink()
    with pytest.raises(HypervisorError, match="qemu-img failed"):
        bring_up(work, Progress())
    assert steps(work.folder) == [StepKind.STATE, StepKind.KEYS, StepKind.DISK]
    take_down(work.folder, Progress())
    assert steps(work.folder) == []


def test_a_disk_smaller_than_the_image_is_a_mistake_of_usage(work: Work) -> None:
    work.image = replace(work.image, size=(1 << 30) + 1)
    with pytest.raises(UsageError, match="smaller than the image"):
        bring_up(work, Progress())


def test_what_undoing_a_start_needs_is_known_before_it(work: Work) -> None:
    assert STEPS[StepKind.START].prepare(work) == {
        "domain": "vm",
        "uuid": work.plan.domain.uuid,
        "drivers": {NOBODY: None},
        "ids": {NOBODY: None},
        "boot": boot_id(),
        "owners": {},
    }


def test_what_undoing_hugepages_needs_is_known_before_them(work: Work) -> None:
    pages = work.plan.domain.hugepages
    assert pages is not None
    data = STEPS[StepKind.HUGEPAGES].prepare(work)
    assert data.keys() == {"size_kib", "boot", "nodes"}
    assert (data["size_kib"], data["boot"]) == (2048, boot_id())
    (pool,) = data["nodes"].values()
    assert 0 <= pool["count"] <= pages.count
    assert pool["before"] >= 0


def test_every_step_of_a_plan_is_in_the_table() -> None:
    assert STEPS.keys() == set(StepKind)


# One at a time changes the host.


def test_down_waits_while_another_vm_goes_up_or_down(vm: VmFolder, lock_of_no_host: Path) -> None:
    (disk,) = begun(vm, StepKind.DISK, "vm.qcow2")
    thread = threading.Thread(target=take_down, args=(vm, Progress()), daemon=True)
    with another_holds(lock_of_no_host) as other:
        thread.start()
        thread.join(0.4)
        assert thread.is_alive() and disk.exists()
        other.let_go()
        thread.join(10)
    assert not thread.is_alive() and not disk.exists()


# Killed, at every boundary: what a dead process left is put back by the next one.


def killed_at(moment: tuple[str, StepKind], action: Callable[[], None]) -> None:
    """Runs it in a child of this process, which kills itself at this moment of this step.

    before, after    its doing or undoing; `after` that is not written down yet.
    """
    when, kind = moment
    if (child := os.fork()) == 0:
        row = STEPS[kind]

        def dying(function: Callable[..., None]) -> Callable[..., None]:
            def run(*words: Any) -> None:
                if when == "after":
                    function(*words)
                os.kill(os.getpid(), signal.SIGKILL)

            return run

        STEPS[kind] = replace(row, do=dying(row.do), undo=dying(row.undo))
        action()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


BOUNDARIES = [(when, kind) for kind in FILES for when in ("before", "after")]


@pytest.mark.parametrize("moment", BOUNDARIES, ids=str)
def test_an_up_that_was_killed_is_undone_to_the_last_file(
    work: Work, tmp_path: Path, moment: tuple[str, StepKind]
) -> None:
    killed_at(moment, lambda: bring_up(work, Progress()))
    begun = list(FILES[: FILES.index(moment[1]) + 1])
    assert steps(work.folder) == begun
    assert [entry.done for entry in work.folder.outstanding()] == [True] * (len(begun) - 1) + [
        False
    ]
    take_down(work.folder, Progress())
    assert steps(work.folder) == []
    assert tree(tmp_path) <= {
        "base.img",
        "state/vm/domain.xml",
        "state/vm/journal.jsonl",
        "state/vm/vm.json",
    }
    bring_up(work, Progress())
    assert steps(work.folder) == list(FILES)


@pytest.mark.parametrize("moment", BOUNDARIES, ids=str)
def test_a_down_that_was_killed_is_gone_on_with(
    work: Work, tmp_path: Path, moment: tuple[str, StepKind]
) -> None:
    bring_up(work, Progress())
    killed_at(moment, lambda: take_down(work.folder, Progress()))
    assert steps(work.folder) == list(FILES[: FILES.index(moment[1]) + 1])
    assert work.folder.going_down()
    take_down(work.folder, Progress())
    assert (steps(work.folder), work.folder.going_down()) == ([], False)
    assert tree(tmp_path) == {
        "base.img",
        "state/vm/domain.xml",
        "state/vm/journal.jsonl",
        "state/vm/vm.json",
    }


def test_an_up_that_was_killed_before_its_first_line_left_nothing_to_undo(work: Work) -> None:
    """There is a record, and no journal: nothing was done that a line had not announced."""
    work.folder.create(VmRecord.of(work.plan))
    assert steps(work.folder) == []
    take_down(work.folder, Progress())
    assert not (work.folder.path / "journal.jsonl").exists()
    bring_up(work, Progress())


def test_an_empty_journal_is_one_of_a_vm_that_is_down(work: Work) -> None:
    work.folder.create(VmRecord.of(work.plan))
    (work.folder.path / "journal.jsonl").touch()
    assert (steps(work.folder), work.folder.going_down()) == ([], False)
    take_down(work.folder, Progress())


def test_a_journal_without_a_record_is_enough_to_take_it_down(work: Work, tmp_path: Path) -> None:
    bring_up(work, Progress())
    (work.folder.path / "vm.json").unlink()
    take_down(work.folder, Progress())
    assert not Path(work.plan.domain.disk).exists()
    assert steps(work.folder) == []


def test_a_line_that_was_torn_off_is_not_in_the_way_of_what_comes_after(work: Work) -> None:
    bring_up(work, Progress())
    with (work.folder.path / "journal.jsonl").open("a") as journal:
        journal.write('{"version": 3, "step": "define", "phase": "beg')
    assert steps(work.folder) == list(FILES)
    take_down(work.folder, Progress())
    assert steps(work.folder) == []


def test_a_disk_that_is_full_keeps_no_vm_up(work: Work) -> None:
    """Not a line can be written: all is undone nevertheless, and what is missing is said."""
    bring_up(work, Progress())
    journal = work.folder.path / "journal.jsonl"
    text = journal.read_bytes()
    if (child := os.fork()) == 0:
        # SIGXFSZ is ignored by Python: EFBIG, which stands for a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(text), len(text)))
        try:
            take_down(work.folder, Progress())
        except HostError as error:
            os._exit(0 if str(journal) in error.message else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not Path(work.plan.domain.disk).exists()
    assert steps(work.folder) == list(FILES)  # by what could be written down
    take_down(work.folder, Progress())
    assert steps(work.folder) == []


def test_the_operators_own_key_is_used_and_left_alone(work: Work, tmp_path: Path) -> None:
    key = tmp_path / "mine"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    work.plan = replace(work.plan, identity=str(key))
    bring_up(work, Progress())
    assert work.client_public == public_of(key)
    assert not work.folder.identity.exists()
    assert work.folder.login_key(work.folder.record()) == key
    take_down(work.folder, Progress())
    work.folder.purge()
    assert key.exists() and key.with_suffix(".pub").exists()
    assert not work.folder.path.exists()


# The digest of a plan: what it was made by, and not what the host is busy with.


def test_the_digest_of_a_plan_is_the_same_while_its_vm_runs(work: Work) -> None:
    plan = work.plan
    moved = tuple(replace(device, driver="vfio-pci") for device in plan.devices)
    domain = replace(plan.domain, placement=None)
    later = replace(plan, devices=moved, domain=domain, findings=(), steps=())
    assert plan_digest(later) == plan_digest(plan)
    assert len(plan_digest(plan)) == 64


def test_another_plan_has_another_digest(work: Work) -> None:
    plan = work.plan
    others = [
        replace(plan, domain=replace(plan.domain, memory_mib=1)),
        replace(plan, image="/another.img"),
        replace(plan, authorized_keys=("ssh-ed25519 AAAA",)),
        replace(plan, identity="/root/key"),
        replace(plan, autostart=not plan.autostart),
        replace(plan, software=replace(plan.software, packages=("nvtop",))),
        replace(plan, devices=tuple(replace(d, ids="10de:1234") for d in plan.devices)),
    ]
    digests = [plan_digest(each) for each in (plan, *others)]
    assert len(set(digests)) == len(digests)
