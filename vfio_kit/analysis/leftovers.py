"""PURE: what a crash, a reboot or somebody else left of a VM: facts in, leftovers out.

Facts come from apply/repair.py, the kinds of leftovers from knowledge/leftovers.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from vfio_kit.analysis.describe import listed
from vfio_kit.knowledge.leftovers import (
    DAMAGED,
    ENDED,
    FILES_GONE,
    FILES_GONE_RUNNING,
    FIRST_BOOT,
    FIRST_BOOT_OFF,
    FOREIGN,
    HALF_BAKED,
    HALF_DOWN,
    HALF_STOPPED,
    HALF_UP,
    LOST,
    NOT_STARTED,
    OUTSIDE,
    REBOOTED,
    RENUMBERED,
    TEMPORARY,
    UNDEFINED,
    UNIT,
    UNKNOWN_DOMAIN,
    LeftoverKind,
)
from vfio_kit.model.domain import runs
from vfio_kit.model.vm import StepKind


class State(StrEnum):
    """What a VM is, in a word for `list`."""

    BUSY = "in work"
    DAMAGED = "damaged"
    DOWN = "down"
    HALF_DOWN = "half down"
    HALF_UP = "half up"
    FIRST_BOOT = "first boot"
    UP = "up"
    PAUSED = "paused"
    OFF = "off"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class StepFacts:
    """A step that was begun and not undone. missing: files that it made and that are gone."""

    kind: StepKind
    done: bool = True
    this_boot: bool = True
    """For START and HUGEPAGES: whether they were done since the host has booted."""
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VmFacts:
    """What is known of a VM that has a folder."""

    name: str
    steps: tuple[StepFacts, ...] = ()
    going_down: bool = False
    holder: str | None = None
    """The process of a vfio-kit that is at work on it."""
    damage: str | None = None
    """Why its record or its journal cannot be read, with file and line."""
    by_hand: tuple[str, ...] = ()
    """For a damaged one: commands that undo what can be seen of it."""
    domain: str | None = None
    """Its state, as libvirt calls it; None where libvirt does not know it."""
    foreign: bool = False
    """Whether libvirt has a domain of its name with another UUID."""
    has_copy: bool = True
    """Whether its domain's XML is kept."""
    logged_in: bool = False
    """Whether somebody had logged in to it: for journals without the waiting."""
    baking: bool = False
    """Whether it is a VM of `bake`, which has no GPU, and of which nobody wants more."""
    older: bool = False
    """Whether an older vfio-kit made it, which wrote down too little to switch it on again."""
    unit: bool = False
    """Whether the host would start it at boot, with this state directory."""
    unit_failed: bool = False
    """Whether the host tried to, and could not."""
    drift: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()

    def step(self, kind: StepKind) -> StepFacts | None:
        return next((step for step in self.steps if step.kind is kind), None)

    @property
    def runs(self) -> bool:
        return runs(self.domain)

    @property
    def is_whole(self) -> bool:
        """Whether its `up` went to its end. Journals before version 3 have no waiting."""
        wait = self.step(StepKind.WAIT)
        return self.logged_in if wait is None else wait.done

    @property
    def is_kept(self) -> bool:
        """Whether somebody could log in to it: it is switched off and on, and only `down` takes it
        away, whatever became of its first boot."""
        wanted = bool(self.steps) and not (self.going_down or self.baking)
        return wanted and (self.is_whole or self.logged_in)


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that is not as it should be. what: the sentence; remedy: the next command."""

    kind: LeftoverKind
    vm: str | None
    what: str
    remedy: str
    files: tuple[str, ...] = ()


def state_of(vm: VmFacts) -> State:
    """The word for a VM."""
    if vm.holder is not None:
        return State.BUSY
    if vm.damage is not None:
        return State.DAMAGED
    if not vm.steps:
        return State.DOWN
    if vm.going_down:
        return State.HALF_DOWN
    if vm.baking or not vm.is_whole:
        return State.FIRST_BOOT if vm.runs else State.HALF_UP
    if vm.runs:
        return State.PAUSED if vm.domain == "paused" else State.UP
    if vm.domain is None or any(step.missing for step in vm.steps):
        return State.LOST
    return State.OFF


def leftovers_of(vm: VmFacts) -> tuple[Leftover, ...]:
    """What is not as it should be of a VM; nothing where another vfio-kit is at work on it."""
    if vm.holder is not None:
        return ()
    if vm.damage is not None:
        return (Leftover(DAMAGED, vm.name, vm.damage, "\n".join(vm.by_hand)),)
    return tuple(_found(vm))


def unknown_domain(name: str, state: str) -> Leftover:
    """A domain with vfio-kit's mark that no record here has."""
    return _leftover(UNKNOWN_DOMAIN, name, f"libvirt's domain {name} is {state}")


def stray_unit(name: str) -> Leftover:
    """A unit of this state directory for a VM without a folder."""
    return _leftover(UNIT, name, f"vfio-kit@{name}.service is enabled")


def temporary_files(vm: str | None, files: tuple[str, ...]) -> Leftover:
    """What a crash left of files that were being written."""
    remedy = f"vfio-kit repair {vm}" if vm else "vfio-kit repair"
    return Leftover(TEMPORARY, vm, listed(files), remedy, files)


def _found(vm: VmFacts) -> Iterator[Leftover]:
    if vm.foreign:
        yield _leftover(FOREIGN, vm.name, f"libvirt has another {vm.name}")
    if not vm.steps:
        if vm.unit:
            yield stray_unit(vm.name)
    elif vm.going_down:
        left = listed([step.kind.value for step in vm.steps])
        yield _leftover(HALF_DOWN, vm.name, f"not undone yet: {left}")
    elif vm.baking:
        yield _leftover(HALF_BAKED, vm.name, _how_far(vm))
    elif vm.is_kept:
        if not vm.is_whole:
            kind = FIRST_BOOT if vm.runs else FIRST_BOOT_OFF
            yield _leftover(kind, vm.name, f"it is {vm.domain or 'gone from libvirt'}")
        yield from _of_a_kept_one(vm)
    elif vm.runs:
        yield _leftover(FIRST_BOOT, vm.name, f"it is {vm.domain}")
    else:
        yield _leftover(HALF_UP, vm.name, _how_far(vm))
    if vm.temporary:
        yield temporary_files(vm.name, vm.temporary)


def _how_far(vm: VmFacts) -> str:
    last = vm.steps[-1]
    return (
        f"it came to the end of the step {last.kind}"
        if last.done
        else (f"it came to the middle of the step {last.kind}")
    )


def _of_a_kept_one(vm: VmFacts) -> Iterator[Leftover]:
    start = vm.step(StepKind.START)
    gone = tuple(path for step in vm.steps for path in step.missing)
    if gone:
        kind = FILES_GONE_RUNNING if vm.runs else FILES_GONE
        yield _leftover(kind, vm.name, f"gone: {listed(gone)}")
    if vm.runs:
        if start is None or not start.this_boot:
            yield _leftover(OUTSIDE, vm.name, f"it is {vm.domain}")
        return
    if vm.drift:
        yield _leftover(RENUMBERED, vm.name, "; ".join(vm.drift))
    can_start = not (gone or vm.drift or vm.older) and (vm.domain is not None or vm.has_copy)
    yield from _switched_off(vm, start, can_start)
    if vm.domain is None and not vm.foreign:
        kind = UNDEFINED if vm.has_copy else LOST
        yield _leftover(kind, vm.name, f"libvirt has no domain {vm.name}")


def _switched_off(vm: VmFacts, start: StepFacts | None, can_start: bool) -> Iterator[Leftover]:
    """What is kept for a VM that is off."""
    pages = vm.step(StepKind.HUGEPAGES)
    how = f"it is {vm.domain}" if vm.domain else "it is gone from libvirt"
    if start is None:
        if pages is not None:
            yield _leftover(HALF_STOPPED, vm.name, f"{how}, and its hugepages are still there")
        if vm.unit_failed and can_start:
            yield _leftover(NOT_STARTED, vm.name, how)
    elif vm.unit and can_start and not start.this_boot:
        yield _leftover(NOT_STARTED, vm.name, how)
    else:
        kind = (ENDED if start.done else HALF_STOPPED) if start.this_boot else REBOOTED
        left = _leftover(kind, vm.name, how)
        yield left if can_start else replace(left, remedy=HALF_STOPPED.remedy.format(vm=vm.name))


def _leftover(kind: LeftoverKind, vm: str, what: str) -> Leftover:
    return Leftover(kind, vm, what, kind.remedy.format(vm=vm))
