"""Waits for a VM's first boot: what `up` and `bake` have in common behind its start."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vfio_kit.cli.first_boot_report import ConsoleTail, FirstBootReport, print_culprit
from vfio_kit.errors import GuestError, HypervisorError, VfioKitError

if TYPE_CHECKING:
    from vfio_kit.analysis.guest.culprits import Diagnosis
    from vfio_kit.analysis.guest.first_boot import FirstBoot
    from vfio_kit.apply.hypervisor import Hypervisor
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.guest.observe import Followed
    from vfio_kit.guest.ssh import Connection
    from vfio_kit.model.vm import UpPlan

_LOOK = 5.0
"""Seconds between two looks whether the VM is still there, while its first boot is watched."""
_STEADY = 5.0
"""Seconds for a server that refuses a login to show that it is there, and the login hopeless."""


class LeftRunning(VfioKitError):
    """The guest can be logged in to, its first boot has failed: it is left as it is.

    diagnosis: why, as far as its logs tell.
    """

    exit_code = 3
    diagnosis: "Diagnosis | None" = None


class LeftUnfinished(LeftRunning):
    """The guest can be logged in to, and its first boot did not end in time."""

    exit_code = 6


@dataclass
class FirstBootWatch:
    """A VM that was started, and whoever waits for it. deadline is on the monotonic clock.

    mode     the mode of the provisioning that is due: guest or bake.
    stays    whether the VM is left running when its first boot has failed.
    address  where it answered last; None as long as it has not.
    """

    plan: "UpPlan"
    folder: "VmFolder"
    hypervisor: "Hypervisor"
    deadline: float
    report: FirstBootReport
    mode: str = "guest"
    stays: bool = True
    address: str | None = None

    def wait(self, at_end: Callable[["Followed"], None] = lambda _connection: None) -> None:
        """Until the first boot is done; at_end gets the connection that saw it.

        Raises GuestError where nobody could log in, LeftRunning where it failed, LeftUnfinished
        where it did not end in time, HypervisorError where the VM stopped.
        """
        from vfio_kit.analysis.guest.first_boot import Ending, FirstBoot
        from vfio_kit.analysis.provisioning import provisioning_of
        from vfio_kit.guest.observe import NeverBack, NotUnderstood, observe
        from vfio_kit.guest.runner import CommandTimeout

        begin = time.monotonic()
        looked = begin

        def show(boot: "FirstBoot") -> None:
            nonlocal looked
            if time.monotonic() > looked + _LOOK:
                looked = time.monotonic()
                self.still_there()
            self.report.show(boot)

        def end(boot: "FirstBoot", connection: "Followed") -> None:
            if boot.ending is not Ending.DONE:
                raise self._failed(boot, connection)
            self.report.progress("first boot is done, without errors", time.monotonic() - begin)
            at_end(connection)

        mode = None if provisioning_of(self.plan.guest, self.plan.software) is None else self.mode
        try:
            observe(self._reach, FirstBoot(mode), self.deadline, show, at_end=end)
        except NeverBack as error:
            raise self._left(LeftUnfinished, f"was up, and {error.message}") from None
        except NotUnderstood as error:
            raise self._left(LeftRunning, f"is up, but {error.message}") from None
        except CommandTimeout:
            last = f": {self.report.activity}" if self.report.activity else ""
            story = f"is up, but its first boot has not ended in time{last}"
            raise self._left(LeftUnfinished, story) from None
        finally:
            self.report.end()

    def still_there(self) -> None:
        """Raises HypervisorError where the VM has stopped."""
        domain = self.plan.domain
        found = self.hypervisor.domain(domain.name)
        if found is None or not found.runs:
            state = "gone" if found is None else found.state
            raise HypervisorError(
                f"the VM stopped while it booted: it is {state}",
                f"its console: {domain.console_log}; QEMU's own words: "
                f"/var/log/libvirt/qemu/{domain.name}.log",
            )

    def _reach(self) -> "Connection":
        """Logs in, after a reboot once more; the first time it says where."""
        from vfio_kit.guest.ssh import Target, WrongHostKey, connect_when_ready

        first = self.address is None
        record = self.folder.record()
        while True:
            host = self._greeted(self.deadline)
            if first:
                self.folder.save(replace(record, address=host))
            target = Target(
                host,
                22,
                self.plan.user,
                self.folder.login_key(record),
                self.folder.known_hosts,
                self.plan.domain.name,
            )
            begin = time.monotonic()
            self.report.running("logging in", begin, ConsoleTail(self.plan.domain.console_log))
            try:
                connection = connect_when_ready(target, self.deadline)
            except WrongHostKey:
                raise
            except GuestError:
                # A server that is there and takes no login will not take the next one either; one
                # that has gone belongs to a guest that reboots.
                if self._greets(host):
                    raise
                continue
            if first:
                took = time.monotonic() - begin
                self.report.progress("logged in; the host key is the one made above", took)
            return connection

    def _greeted(self, deadline: float) -> str:
        from vfio_kit.guest.ssh import wait_for_banner

        domain = self.plan.domain
        begin, tail = time.monotonic(), ConsoleTail(domain.console_log)

        def look() -> None:
            self.still_there()
            self.report.running("waiting for the guest's SSH server", begin, tail)

        host = wait_for_banner(
            lambda: self.hypervisor.lease(domain.network, domain.mac), 22, deadline, look
        )
        if self.address is None:
            self.report.progress(f"SSH server greets at {host}", time.monotonic() - begin)
        self.address = host
        return host

    def _greets(self, host: str) -> bool:
        from vfio_kit.guest.ssh import wait_for_banner

        try:
            wait_for_banner(lambda: host, 22, time.monotonic() + _STEADY, self.still_there)
        except GuestError:
            return time.monotonic() > self.deadline
        return True

    def _failed(self, boot: "FirstBoot", connection: "Followed") -> LeftRunning:
        from vfio_kit.analysis.guest.culprits import diagnose
        from vfio_kit.guest.observe import last_lines

        state = boot.provision
        named = (state.culprit, state.log) if state and state.state == "failed" else ()
        diagnosis = diagnose(state, last_lines(connection, *filter(None, named)))
        print_culprit(diagnosis)
        error = self._left(LeftRunning, f"is up, but {boot.story}", diagnosis)
        error.diagnosis = diagnosis
        return error

    def _left(
        self, kind: type[LeftRunning], story: str, diagnosis: "Diagnosis | None" = None
    ) -> LeftRunning:
        domain, hints = self.plan.domain, []
        if diagnosis is not None and diagnosis.meaning:
            pain = f"{diagnosis.pain}: " if diagnosis.pain else ""
            hints = [f"{pain}{diagnosis.meaning}", diagnosis.remedy]
        if kind is LeftUnfinished or not self.stays:
            hints += [f"its console: {domain.console_log}"]
        if self.stays:
            hints += ["in the guest: cloud-init status --long; less /var/log/cloud-init-output.log"]
            hints += [f"it was left running; vfio-kit down {domain.name} takes it away"]
        return kind(f"{domain.name} {story}", "\n".join(hints))
