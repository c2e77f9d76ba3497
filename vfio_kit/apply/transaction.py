"""`up` as a transaction: steps in order, journalled; `take_down` undoes them in reverse."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cache

from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.journal import Entry, VmFolder, VmRecord, lock_folder
from vfio_kit.apply.steps import STEPS, Connect, Work
from vfio_kit.errors import HostError, HypervisorError
from vfio_kit.model.vm import Step, StepKind

Progress = Callable[[str, float], None]
"""Called with what was done and the seconds that it took."""


def bring_up(work: Work, progress: Progress) -> None:
    """Does every step but the waiting; on any failure the caller calls `take_down`."""
    work.folder.create(VmRecord.of(work.plan))
    with _alone(work.folder):
        for step in work.plan.steps:
            if step.kind is not StepKind.WAIT:
                _do(step, work, progress)


def _do(step: Step, work: Work, progress: Progress) -> None:
    begin = time.monotonic()
    implementation = STEPS[step.kind]
    data = implementation.prepare(work)
    work.folder.begin(step.kind, data)
    implementation.do(work, data)
    work.folder.done(step.kind)
    progress(step.what, time.monotonic() - begin)


def take_down(folder: VmFolder, progress: Progress) -> None:
    """Undoes what the journal says was begun, in reverse; may be repeated.

    What libvirt refuses ends it at once: a domain that may still run keeps its disk and its memory.
    Any other step that cannot be undone stays in the journal and does not keep the rest from it;
    its error is raised at the end.
    """
    errors: list[HostError] = []
    with ExitStack() as stack:
        stack.enter_context(_alone(folder))
        connect = cache(lambda: stack.enter_context(Hypervisor()))
        for entry in reversed(folder.outstanding()):
            begin = time.monotonic()
            try:
                _undo(entry, folder, connect)
            except HostError as error:
                errors.append(error)
                continue
            except HypervisorError as error:
                raise HypervisorError(
                    "; ".join([*_messages(errors), error.message]), error.hint
                ) from None
            folder.undone(entry.step)
            progress(_UNDONE[entry.step], time.monotonic() - begin)
    if errors:
        raise HostError("; ".join(_messages(errors)), errors[0].hint)


def _messages(errors: list[HostError]) -> list[str]:
    return [error.message for error in errors]


def _undo(entry: Entry, folder: VmFolder, connect: Connect) -> None:
    try:
        STEPS[entry.step].undo(connect, entry.data)
    except (KeyError, TypeError) as error:
        raise HostError(
            f"the journal in {folder.path} says too little of the step {entry.step}: {error!r}",
            "use the vfio-kit that wrote it",
        ) from None


def _alone(folder: VmFolder) -> AbstractContextManager[None]:
    """One at a time changes the host: pools of hugepages and drivers are everybody's."""
    held = "another vfio-kit changes this host since two minutes"
    return lock_folder(folder.path.parent, 120, held)


_UNDONE: dict[StepKind, str] = {
    StepKind.STATE: "closed the journal",
    StepKind.HUGEPAGES: "hugepages given back",
    StepKind.KEYS: "keys removed",
    StepKind.DISK: "overlay removed",
    StepKind.SEED: "seed removed",
    StepKind.DEFINE: "domain undefined",
    StepKind.START: "VM stopped, devices back on their drivers",
}
