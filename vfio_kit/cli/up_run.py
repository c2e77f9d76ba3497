"""What `up` does: what is there is looked at first, then gone on with, taken down, or begun."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfio_kit.cli.common import print_findings, uninterrupted
from vfio_kit.cli.first_boot import FirstBootWatch, LeftRunning
from vfio_kit.cli.hung import naming_holders
from vfio_kit.cli.preflight import (
    CpusTaken,
    prepare,
    require_as_looked_at,
    require_down,
    require_files,
)
from vfio_kit.cli.spec_options import plan_from
from vfio_kit.errors import HostError, Refused, UsageError, VfioKitError
from vfio_kit.model.vm import StepKind

if TYPE_CHECKING:
    from vfio_kit.analysis.leftovers import VmFacts
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.apply.steps import Work
    from vfio_kit.cli.up_report import UpReport
    from vfio_kit.model.vm import UpPlan
    from vfio_kit.spec import GuestSpec


@dataclass
class UpRun:
    """One `up`: of a new name, or of one that an earlier `up` left half done.

    looked_at  the document of `plan --json` that nothing may have changed against; None: any plan.
    """

    spec: "GuestSpec"
    folder: "VmFolder"
    image_dir: Path
    timeout: int
    report: "UpReport"
    looked_at: Mapping[str, Any] | None = None

    def run(self) -> None:
        """Brings the VM up, or goes on waiting for it; takes the VM's lock."""
        self.report.folder = self.folder
        if not self.folder.outstanding():
            self._begin()
            return
        with self.folder.locked():
            if self._is_waited_for():
                self._go_on()
                return
            self._clear()
        self._begin()

    def _begin(self) -> None:
        from vfio_kit.apply.claims import require_unclaimed
        from vfio_kit.apply.libvirt_connection import wake

        wake()
        # Before the host is judged: of a GPU that a VM has the judgement is that a VM has it.
        gpus = [(address, None) for address in self.spec.addresses]
        require_unclaimed(self.folder.path.parent, self.folder.name, gpus)
        plan = self.report.plan = self._plan()
        require_files(plan)
        require_as_looked_at(self.looked_at, plan)
        print_findings(plan.findings, err=True)
        with self.folder.locked():
            require_down(self.folder)
            self._bring_up(plan)

    def _plan(self, tolerated: frozenset[str] = frozenset()) -> "UpPlan":
        state_dir = self.folder.path.parent
        with self.report.timed("host read, plan made", "reading the host"):
            return plan_from(Path("/"), self.spec, state_dir, self.image_dir, tolerated)

    def _bring_up(self, plan: "UpPlan") -> None:
        from vfio_kit.apply.hypervisor import Hypervisor
        from vfio_kit.apply.locks import host_lock
        from vfio_kit.apply.transaction import bring_up

        begun = False
        with Hypervisor() as hypervisor:
            try:
                with host_lock(self.report.note):
                    with self.report.timed(
                        "host examined, nothing in the way", "looking for what is in the way"
                    ):
                        work = self._prepared(plan, hypervisor)
                    plan = work.plan
                    begun = True
                    with naming_holders(self.folder):
                        bring_up(work, self.report.progress, self.report.begins)
                self._wait(plan, hypervisor)
            except LeftRunning:
                raise
            except BaseException as error:
                if begun:
                    self._roll_back(plan, error)
                raise

    def _prepared(self, plan: "UpPlan", hypervisor: "Hypervisor") -> "Work":
        """The last look, under the host's lock.

        Of several `up` at once the first takes the cores that all of them planned with; for the
        others it is planned again, where nothing but the place is another.
        """
        from vfio_kit.apply.record import plan_digest

        try:
            return prepare(plan, self.folder, hypervisor)
        except CpusTaken:
            again = self._plan() if self.looked_at is None else plan
            if again == plan or plan_digest(again) != plan_digest(plan):
                raise
        self.report.plan = again
        return prepare(again, self.folder, hypervisor)

    def _wait(self, plan: "UpPlan", hypervisor: "Hypervisor") -> None:
        self.folder.begin(StepKind.WAIT, {})
        console = plan.domain.console_log
        self.report.note(f"waiting for the guest, {self.timeout} s at most; its console: {console}")
        deadline = time.monotonic() + self.timeout
        watch = FirstBootWatch(plan, self.folder, hypervisor, deadline, self.report)
        try:
            watch.wait()
        finally:
            self.report.address = watch.address
        try:
            for kind in (
                StepKind.START,
                StepKind.WAIT,
            ):  # a killed `up` did not see its start's end
                self.folder.done(kind)
        except HostError as error:  # a full disk is no reason to take a good VM away
            self.report.note(f"not written down that it is up: {error.message}")
        self.report.finish(f"{plan.domain.name} is up at {watch.address}", bars=True)

    # What an earlier `up` left.

    def _is_waited_for(self) -> bool:
        """Whether the VM runs and was not waited for to the end; False: it is to be taken down.

        Raises UsageError for one that is up, or could have been logged in to; HostError for a
        damaged record or journal.
        """
        facts = self._facts()
        name = facts.name
        if facts.damage is not None:
            raise HostError(facts.damage, "\n".join(facts.by_hand))
        if facts.going_down:
            return False
        if facts.is_whole or not self.folder.record().plan:
            raise UsageError(
                f"{name!r} is up, or switched off, already",
                f"vfio-kit list says which; vfio-kit start {name} switches it on; "
                f"vfio-kit down {name} takes it away",
            )
        if not facts.runs and facts.logged_in:
            raise UsageError(
                f"{name!r} is off, and its first boot was not waited for to the end; somebody may "
                "have logged in to it since",
                f"its disk would be lost: if that is right, vfio-kit down {name}",
            )
        return facts.runs and facts.step(StepKind.START) is not None

    def _facts(self) -> "VmFacts":
        from vfio_kit.apply.facts import vm_facts
        from vfio_kit.apply.hypervisor import Hypervisor

        facts = vm_facts(self.folder, {})
        if facts.is_whole or facts.damage is not None or facts.step(StepKind.DEFINE) is None:
            return facts  # libvirt has nothing to add
        with Hypervisor() as hypervisor:
            return vm_facts(self.folder, {found.name: found for found in hypervisor.domains()})

    def _go_on(self) -> None:
        from vfio_kit.apply.hypervisor import Hypervisor

        plan = self.report.plan = self._plan_of_what_runs()
        self.report.resumed = True
        self.report.note(f"resuming: {plan.domain.name} runs, and was not waited for to the end")
        with Hypervisor() as hypervisor:
            try:
                self._wait(plan, hypervisor)
            except LeftRunning:
                raise
            except BaseException as error:
                self._roll_back(plan, error)
                raise

    def _plan_of_what_runs(self) -> "UpPlan":
        """The plan, which has to be the one that the VM was made by; Refused where it is not."""
        from vfio_kit.apply.record import plan_digest
        from vfio_kit.knowledge.findings import FINDING_KINDS, HELD_OPEN

        name = self.folder.name
        hint = (
            "the options that it was made with go on with it; "
            f"or take it away first: vfio-kit down {name}"
        )
        try:  # that a VM has the GPU is as it should be: it is this one
            plan = self._plan(frozenset(kind.code for kind in FINDING_KINDS))
        except VfioKitError as error:
            raise Refused(f"{name!r} runs, half up; and anew: {error.message}", hint) from None
        if plan_digest(plan) != self.folder.record().plan:
            raise Refused(f"{name!r} runs, half up, and was made by another plan than this", hint)
        findings = tuple(found for found in plan.findings if found.code != HELD_OPEN.code)
        return replace(plan, findings=findings)

    def _clear(self) -> None:
        entries = self.folder.outstanding()
        last = entries[-1]
        what = (
            "was not taken down to the end"
            if self.folder.going_down()
            else f"came to the {'end' if last.done else 'middle'} of the step {last.step}"
        )
        self.report.note(f"an earlier {self.folder.name} {what}; it is taken down first")
        with naming_holders(self.folder):
            self._take_down(uninterrupted)

    def _take_down(self, guard: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        from vfio_kit.apply.transaction import take_down

        report = self.report
        take_down(self.folder, report.progress, report.note, guard, report.begins)

    def _roll_back(self, plan: "UpPlan", error: BaseException) -> None:
        name = plan.domain.name
        reason = error.message if isinstance(error, VfioKitError) else type(error).__name__
        with uninterrupted():
            self.report.failed(f"failed: {reason}; putting the host back")
            try:
                with naming_holders(self.folder):
                    self._take_down()
                if not Path(plan.domain.console_log).exists():
                    self.folder.purge()  # the guest never ran: there is nothing to read afterwards
            except VfioKitError as second:
                for line in (
                    f"could not put everything back: {second.message}",
                    *second.hint.splitlines(),
                ):
                    self.report.note(line)
                self.report.note(f"what is left is written down; repeat: vfio-kit down {name}")
                return
            self.report.finish("the host is as it was")
