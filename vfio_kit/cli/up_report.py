"""What `up` prints: its steps while it works, and at the end how to log in, or its document."""

import shlex
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli import console
from vfio_kit.cli.common import finding_json, print_json
from vfio_kit.cli.first_boot_report import FirstBootReport
from vfio_kit.cli.origin import as_typed, next_words

if TYPE_CHECKING:
    from vfio_kit.apply.journal import VmFolder
    from vfio_kit.cli.first_boot import LeftRunning
    from vfio_kit.model.vm import UpPlan


class UpReport(FirstBootReport):
    """What `up` did, with its times: said line by line, and printed at the end.

    plan, folder  of the VM, once they are known; address: where it answers.
    resumed       whether the VM was there already, and was waited for only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.plan: UpPlan | None = None
        self.folder: VmFolder | None = None
        self.address: str | None = None
        self.resumed = False

    def print_login(self) -> None:
        """The command that logs in, on stdout."""
        plan, _ = self._known()
        click.echo(as_typed(self.ssh_command()))
        console.say(f"next: vfio-kit verify {plan.domain.name}{next_words()}")

    def ssh_command(self) -> str:
        """Ready to be pasted into a shell, with the key and the host key of this VM."""
        plan, folder = self._known()
        return shlex.join(
            [
                "ssh",
                "-i",
                str(folder.login_key(folder.record())),
                "-o",
                f"UserKnownHostsFile={_ssh_word(str(folder.known_hosts))}",
                "-o",
                f"HostKeyAlias={plan.domain.name}",
                f"{plan.user}@{self.address}",
            ]
        )

    def print_document(self, failure: "LeftRunning | None") -> None:
        """As JSON, on stdout; failure: why the first boot of a guest that runs has failed."""
        plan, folder = self._known()
        print_json(
            {
                "schema": "vfio-kit/up/2",
                "name": plan.domain.name,
                "address": self.address,
                "user": plan.user,
                "identity": str(folder.login_key(folder.record())),
                "known_hosts": str(folder.known_hosts),
                "gpus": [str(gpu) for gpu in plan.gpus],
                "autostart": plan.autostart,
                "resumed": self.resumed,
                "failure": None if failure is None else failure.message,
                "diagnosis": _diagnosis(failure),
                "findings": [finding_json(found) for found in plan.findings],
                **self.times_json(),
            }
        )

    def _known(self) -> "tuple[UpPlan, VmFolder]":
        assert self.plan is not None and self.folder is not None
        return self.plan, self.folder


def _diagnosis(failure: "LeftRunning | None") -> dict[str, Any] | None:
    why = failure.diagnosis if failure else None
    if why is None:
        return None
    return {
        "pain": why.pain or None,
        "meaning": why.meaning,
        "remedy": why.remedy,
        "log": why.log or None,
        "lines": list(why.lines),
    }


def _ssh_word(path: str) -> str:
    """A path as one word of ssh's own options, where spaces part several files (ssh_config(5))."""
    return f'"{path}"' if " " in path else path
