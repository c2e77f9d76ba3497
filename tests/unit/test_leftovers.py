"""What is left of a VM is told from what is known of it: a row for every case."""

from dataclasses import replace
from pathlib import Path

import pytest

from vfio_kit.analysis.leftovers import (
    State,
    StepFacts,
    VmFacts,
    leftovers_of,
    state_of,
    stray_unit,
    temporary_files,
    unknown_domain,
)
from vfio_kit.knowledge.leftovers import KINDS, Mend
from vfio_kit.model.vm import StepKind

ORDER = (
    StepKind.STATE,
    StepKind.HUGEPAGES,
    StepKind.KEYS,
    StepKind.DISK,
    StepKind.SEED,
    StepKind.DEFINE,
    StepKind.START,
    StepKind.WAIT,
)


def begun(*kinds: StepKind, done: bool = True, this_boot: bool = True) -> tuple[StepFacts, ...]:
    """Steps, all done, or all but the last."""
    steps = [StepFacts(kind, this_boot=this_boot) for kind in kinds]
    return (*steps[:-1], replace(steps[-1], done=done))


def until(last: StepKind, *, done: bool = True) -> tuple[StepFacts, ...]:
    return begun(*ORDER[: ORDER.index(last) + 1], done=done)


def without(steps: tuple[StepFacts, ...], *kinds: StepKind) -> tuple[StepFacts, ...]:
    return tuple(step for step in steps if step.kind not in kinds)


def missing(steps: tuple[StepFacts, ...], kind: StepKind, path: str) -> tuple[StepFacts, ...]:
    return tuple(replace(s, missing=(path,)) if s.kind is kind else s for s in steps)


ALL = until(StepKind.WAIT)
OTHER_BOOT = begun(*ORDER, this_boot=False)
STOPPED = without(ALL, StepKind.START, StepKind.HUGEPAGES)
UP = VmFacts("vm", ALL, domain="running", logged_in=True)
OFF = VmFacts("vm", STOPPED, domain="shut off", logged_in=True)
REBOOTED = VmFacts("vm", OTHER_BOOT, domain="shut off", logged_in=True)


@pytest.mark.parametrize(
    ("vm", "state"),
    [
        (UP, State.UP),
        (OFF, State.OFF),
        (VmFacts("vm"), State.DOWN),
        (replace(UP, domain="paused"), State.PAUSED),
        (replace(UP, holder="process 7 (vfio-kit down vm)"), State.BUSY),
        # Stopped, its domain is of no concern to a record that has nothing left to undo.
        (VmFacts("vm", domain="running"), State.DOWN),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_wrong(vm: VmFacts, state: State) -> None:
    assert (leftovers_of(vm), state_of(vm)) == ((), state)


@pytest.mark.parametrize("last", ORDER)
@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("domain", [None, "shut off"])
def test_an_up_that_was_killed_and_does_not_run_is_taken_down(
    last: StepKind, done: bool, domain: str | None
) -> None:
    if last is StepKind.WAIT and done:
        return  # it is whole
    (left,) = leftovers_of(VmFacts("vm", until(last, done=done), domain=domain))
    assert (left.kind.word, left.kind.mend) == ("half-up", Mend.DOWN)
    assert f"the {'end' if done else 'middle'} of the step {last}" in left.what
    assert left.remedy == "vfio-kit repair vm"


@pytest.mark.parametrize("last", [StepKind.START, StepKind.WAIT])
def test_an_up_that_was_killed_while_its_vm_ran_is_told(last: StepKind) -> None:
    vm = VmFacts("vm", until(last, done=False), domain="running")
    (left,) = leftovers_of(vm)
    assert (left.kind.word, left.kind.mend) == ("first-boot", Mend.TELL)
    assert "vfio-kit up vm" in left.remedy and "vfio-kit down vm" in left.remedy
    assert state_of(vm) is State.FIRST_BOOT


@pytest.mark.parametrize("domain", ["running", "shut off", None])
def test_a_down_that_was_killed_is_finished_even_where_its_vm_runs(domain: str | None) -> None:
    vm = VmFacts("vm", until(StepKind.START), going_down=True, domain=domain, logged_in=True)
    (left,) = leftovers_of(vm)
    assert (left.kind.word, left.kind.mend) == ("half-down", Mend.DOWN)
    assert left.what.startswith("not undone yet: state, hugepages, ")
    assert state_of(vm) is State.HALF_DOWN


CASES: tuple[tuple[str, VmFacts, State, list[tuple[str, Mend]]], ...] = (
    ("rebooted", REBOOTED, State.OFF, [("rebooted", Mend.STOP)]),
    (
        "rebooted, and to be started at boot",
        replace(REBOOTED, unit=True),
        State.OFF,
        [("not-started", Mend.START)],
    ),
    (
        "shut down in good order, and not started at boot",
        replace(OFF, unit=True, unit_failed=True),
        State.OFF,
        [("not-started", Mend.START)],
    ),
    (
        "rebooted, and libvirt has forgotten it",
        replace(REBOOTED, domain=None),
        State.LOST,
        [("rebooted", Mend.STOP), ("undefined", Mend.DEFINE)],
    ),
    (
        "rebooted, and its card is elsewhere",
        replace(REBOOTED, unit=True, drift=("the card that was at A is at B now",)),
        State.OFF,
        [("renumbered", Mend.TELL), ("rebooted", Mend.STOP)],
    ),
    (
        "switched off in the guest",
        replace(UP, domain="shut off"),
        State.OFF,
        [("ended", Mend.STOP)],
    ),
    ("crashed", replace(UP, domain="crashed"), State.OFF, [("ended", Mend.STOP)]),
    (
        "destroyed and undefined by hand",
        replace(UP, domain=None),
        State.LOST,
        [("ended", Mend.STOP), ("undefined", Mend.DEFINE)],
    ),
    (
        "undefined while it was off",
        replace(OFF, domain=None),
        State.LOST,
        [("undefined", Mend.DEFINE)],
    ),
    (
        "undefined, of an older vfio-kit",
        replace(OFF, domain=None, has_copy=False),
        State.LOST,
        [("lost", Mend.TELL)],
    ),
    (
        "another domain has its name",
        replace(OFF, domain=None, foreign=True),
        State.LOST,
        [("name-taken", Mend.TELL)],
    ),
    (
        "stop was killed in the middle",
        replace(OFF, steps=without(ALL, StepKind.START)),
        State.OFF,
        [("half-stopped", Mend.STOP)],
    ),
    (
        "start was killed in the middle",
        replace(OFF, steps=(*STOPPED, *begun(StepKind.HUGEPAGES, StepKind.START, done=False))),
        State.OFF,
        [("half-stopped", Mend.STOP)],
    ),
    (
        "started by virsh after stop",
        replace(OFF, domain="running"),
        State.UP,
        [("started-outside", Mend.TELL)],
    ),
    (
        "started by virsh after a reboot",
        replace(REBOOTED, domain="running"),
        State.UP,
        [("started-outside", Mend.TELL)],
    ),
    (
        "its overlay is gone",
        replace(OFF, steps=missing(STOPPED, StepKind.DISK, "/images/vm.qcow2")),
        State.LOST,
        [("files-gone", Mend.TELL)],
    ),
    (
        "its seed is gone while it runs",
        replace(UP, steps=missing(ALL, StepKind.SEED, "/images/vm-seed.iso")),
        State.UP,
        [("files-gone-running", Mend.TELL)],
    ),
    (
        "its overlay is gone, and it is to be started at boot",
        replace(
            REBOOTED,
            unit=True,
            steps=missing(OTHER_BOOT, StepKind.DISK, "/images/vm.qcow2"),
        ),
        State.LOST,
        [("files-gone", Mend.TELL), ("rebooted", Mend.STOP)],
    ),
    (
        "its first boot failed, and then it was switched off",
        VmFacts("vm", until(StepKind.WAIT, done=False), domain="shut off", logged_in=True),
        State.HALF_UP,
        [("first-boot-off", Mend.TELL), ("ended", Mend.STOP)],
    ),
    (
        "its first boot failed, and it was stopped",
        VmFacts(
            "vm",
            without(until(StepKind.WAIT, done=False), StepKind.START, StepKind.HUGEPAGES),
            domain="shut off",
            logged_in=True,
        ),
        State.HALF_UP,
        [("first-boot-off", Mend.TELL)],
    ),
    (
        "its first boot failed, and it runs",
        VmFacts("vm", until(StepKind.WAIT, done=False), domain="running", logged_in=True),
        State.FIRST_BOOT,
        [("first-boot", Mend.TELL)],
    ),
    (
        "a baking was killed while its guest installed",
        VmFacts("vm", until(StepKind.START), domain="running", logged_in=True, baking=True),
        State.FIRST_BOOT,
        [("half-baked", Mend.DOWN)],
    ),
    (
        "a baking was killed when its guest was sealed",
        VmFacts("vm", until(StepKind.START), domain="shut off", logged_in=True, baking=True),
        State.HALF_UP,
        [("half-baked", Mend.DOWN)],
    ),
    ("damaged", VmFacts("vm", damage="journal.jsonl:3"), State.DAMAGED, [("damaged", Mend.TELL)]),
    (
        "down, and still to be started",
        VmFacts("vm", unit=True),
        State.DOWN,
        [("unit", Mend.DISABLE)],
    ),
    (
        "down, and half a key left",
        VmFacts("vm", temporary=("/state/vm/.id_ed25519.tmp",)),
        State.DOWN,
        [("temporary", Mend.REMOVE)],
    ),
)


@pytest.mark.parametrize(("vm", "state", "left"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_is_left(vm: VmFacts, state: State, left: list[tuple[str, Mend]]) -> None:
    found = leftovers_of(vm)
    assert [(each.kind.word, each.kind.mend) for each in found] == left
    assert state_of(vm) is state


def test_nobody_is_sent_to_start_what_cannot_be_started() -> None:
    moved = replace(REBOOTED, drift=("the card that was at A is at B now",))
    assert [left.remedy for left in leftovers_of(REBOOTED)] == ["vfio-kit start vm"]
    assert not any("start vm" in left.remedy for left in leftovers_of(moved))


def test_a_vm_of_an_older_journal_without_waiting_is_whole_once_somebody_logged_in() -> None:
    steps = until(StepKind.START)
    assert leftovers_of(VmFacts("vm", steps, domain="running", logged_in=True)) == ()
    (left,) = leftovers_of(VmFacts("vm", steps, domain="running"))
    assert left.kind.word == "first-boot"


def test_nobody_meddles_with_what_another_vfio_kit_is_at_work_on() -> None:
    for _, vm, _, _ in CASES:
        busy = replace(vm, holder="process 7 (vfio-kit up vm)")
        assert (leftovers_of(busy), state_of(busy)) == ((), State.BUSY)


def test_a_damaged_one_is_told_with_what_can_be_done_by_hand() -> None:
    vm = VmFacts("vm", damage="/x/journal.jsonl:3 is damaged", by_hand=("virsh destroy vm", "rm x"))
    (left,) = leftovers_of(vm)
    assert (left.what, left.remedy) == (vm.damage, "virsh destroy vm\nrm x")


def test_of_the_host() -> None:
    assert "virsh undefine --nvram x" in unknown_domain("x", "shut off").remedy
    assert stray_unit("gone").kind.mend is Mend.DISABLE
    left = temporary_files(None, ("/images/.a.qcow2.baking",))
    assert (left.vm, left.files, left.remedy) == (None, left.files, "vfio-kit repair")


def test_nothing_that_runs_is_mended_but_what_nobody_wants() -> None:
    for name, vm, _, _ in CASES:
        if vm.runs and not vm.baking:
            assert {left.kind.mend for left in leftovers_of(vm)} == {Mend.TELL}, name


def test_every_kind_is_met_above_and_says_what_to_do() -> None:
    words = {word for case in CASES for word, _ in case[3]}
    words |= {"half-up", "half-down", "unknown-domain"}
    assert {kind.word for kind in KINDS} == words
    for kind in KINDS:
        assert kind.meaning and not kind.meaning.endswith(".")
        assert kind.remedy or kind.word == "damaged"


def test_the_page_has_a_row_for_every_kind() -> None:
    page = (Path(__file__).parents[2] / "docs/repair.md").read_text("utf-8")
    rows = [line.split(" | ")[:2] for line in page.splitlines() if line.startswith("| `")]
    assert rows == [[f"| `{kind.word}`", kind.meaning] for kind in KINDS]
