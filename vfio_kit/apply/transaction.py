"""`up` as a transaction: steps in order, journalled; `take_down` undoes them in reverse."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache

from vfio_kit.apply.hugepages import Look
from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.journal import Entry, VmFolder, VmRecord
from vfio_kit.apply.locks import Said, host_lock
from vfio_kit.apply.steps import STEPS, Connect, Work
from vfio_kit.errors import HostError, HypervisorError
from vfio_kit.model.vm import Step, StepKind

_PATIENCE = 15.0
"""Seconds for a libvirtd that is being restarted: a domain may run, so its word is needed."""
Progress = Callable[[str, float], None]
"""Called with what was done and the seconds that it took."""
Begins = Callable[[str, Look | None], None]
"""Called with what is being done from now on, and how to see how far it has come."""


def untold(_what: str, _look: Look | None) -> None:
    """For those who are not interested."""


def bring_up(work: Work, progress: Progress, begins: Begins = untold) -> None:
    """Does every step but the waiting; the caller holds the host's lock.

    On any failure the caller calls `take_down`.
    """
    work.folder.create(VmRecord.of(work.plan))
    for step in work.plan.steps:
        if step.kind is not StepKind.WAIT:
            _do(step, work, progress, begins)


def _do(step: Step, work: Work, progress: Progress, begins: Begins) -> None:
    begin = time.monotonic()
    implementation = STEPS[step.kind]
    data = implementation.prepare(work)
    begins(step.what, implementation.look and implementation.look(data))
    work.folder.begin(step.kind, data)
    implementation.do(work, data)
    work.folder.done(step.kind)
    progress(step.what, time.monotonic() - begin)


def take_down(
    folder: VmFolder,
    progress: Progress,
    say: Said = lambda _line: None,
    guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    begins: Begins = untold,
) -> None:
    """Undoes what the journal says was begun, in reverse; may be repeated.

    What libvirt refuses ends it at once: a domain that may still run keeps its disk and its memory.
    Any other step that cannot be undone stays in the journal and does not keep the rest from it;
    its error is raised at the end.

    say    is told of a wait for another command that changes the host.
    guard  is entered when that wait is over, and held until the end.
    """
    with ExitStack() as stack:
        stack.enter_context(host_lock(say))
        stack.enter_context(guard())
        connect = cache(lambda: stack.enter_context(Hypervisor(patience=_PATIENCE)))
        _TakingDown(folder, progress, begins, connect).run()


class _TakingDown:
    def __init__(
        self, folder: VmFolder, progress: Progress, begins: Begins, connect: Connect
    ) -> None:
        self._folder, self._progress, self._connect = folder, progress, connect
        self._begins = begins
        self._errors: list[HostError] = []
        self._unsaid: list[StepKind] = []
        """Undone, and the disk had no room to say so."""

    def run(self) -> None:
        entries = self._folder.outstanding()
        if entries and not self._folder.going_down():
            self._mark()
        for entry in reversed(entries):
            self._undo(entry)
        for step in self._unsaid:  # an overlay that is gone leaves room
            try:
                self._folder.undone(step)
            except HostError as error:
                self._errors.append(error)
        if self._errors:
            raise HostError("; ".join(self._messages()), self._errors[0].hint)

    def _mark(self) -> None:
        try:
            self._folder.begin_down()
        except HostError as error:
            # A full disk is a reason to take a VM away, and no reason not to.
            self._progress(f"not written down that it goes down: {error.message}", 0)

    def _undo(self, entry: Entry) -> None:
        begin = time.monotonic()
        if entry.step in UNDOING:
            self._begins(UNDOING[entry.step], None)
        try:
            undo(entry, self._folder, self._connect)
        except HostError as error:
            self._errors.append(error)
            return
        except HypervisorError as error:
            message = "; ".join([*self._messages(), error.message])
            raise type(error)(message, error.hint) from None
        try:
            self._folder.undone(entry.step)
        except HostError:
            self._unsaid.append(entry.step)
        if entry.step in UNDONE:
            self._progress(UNDONE[entry.step], time.monotonic() - begin)

    def _messages(self) -> list[str]:
        return [error.message for error in self._errors]


def undo(entry: Entry, folder: VmFolder, connect: Connect) -> None:
    """Undoes one step, and does not write that down; HostError where the journal says too little.

    The caller holds the host's lock.
    """
    try:
        STEPS[entry.step].undo(connect, entry.data)
    except (KeyError, TypeError) as error:
        raise HostError(
            f"the journal in {folder.path} says too little of the step {entry.step}: {error!r}",
            "use the vfio-kit that wrote it",
        ) from None


UNDONE: dict[StepKind, str] = {
    StepKind.STATE: "closed the journal",
    StepKind.HUGEPAGES: "hugepages given back",
    StepKind.KEYS: "keys removed",
    StepKind.DISK: "overlay removed",
    StepKind.SEED: "seed removed",
    StepKind.DEFINE: "domain undefined",
    StepKind.AUTOSTART: "no longer started at boot",
    StepKind.START: "VM stopped, devices back on their drivers",
}
"""In words; nothing is said of what is nothing to undo."""
UNDOING: dict[StepKind, str] = {
    StepKind.HUGEPAGES: "giving hugepages back",
    StepKind.DISK: "removing the overlay",
    StepKind.DEFINE: "undefining the domain",
    StepKind.AUTOSTART: "taking it from what is started at boot",
    StepKind.START: "stopping the VM, devices go back to their drivers",
}
"""What may take a while, as long as it does."""
