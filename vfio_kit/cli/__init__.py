"""The command line: the only place that prints. stdout has the result, stderr the progress."""

import contextlib
import errno
import importlib
import io
import os
import sys
from typing import Any

import click

from vfio_kit import __version__
from vfio_kit.cli.common import without_control
from vfio_kit.errors import HostError, UsageError, VfioKitError

# In the order of the work; each is imported when it is called, and what it needs with it.
_COMMANDS: dict[str, str] = {
    "scan": "which GPUs can go to a guest, and why others cannot",
    "explain": "the whole story behind a finding: VK101 and so on",
    "advise": "which driver and CUDA a GPU takes, and whether it needs a guest",
    "plan": "what `up` will do, step by step, and what undoes it",
    "render": "write the files: libvirt domain, QEMU script, cloud-init seed",
    "snapshot": "pack what scan and plan read, to look at it elsewhere",
    "image": "download and check the cloud images of guest systems",
    "bake": "make an image that has driver, CUDA and packages in it",
    "up": "take a GPU into a running VM that answers over SSH",
    "verify": "prove the GPUs in guests, rung by rung, up to deviceQuery",
    "stop": "switch a VM off, and keep it",
    "start": "switch a VM on again, with its devices and its hugepages",
    "list": "the VMs that are up",
    "down": "stop a VM and put the host back",
    "repair": "tell what a crash or a reboot left of VMs, and mend it",
}

_HIDDEN = ("remote",)
"""Started by another vfio-kit."""

_READERS = ("scan", "explain", "advise", "plan", "list")
"""Commands whose output is all they do: a reader that stops reading has what it wanted."""

_INTERRUPTED = 130
"""As a shell has it for a program that SIGINT ended."""


class _Commands(click.Group):
    """Knows its commands by name; loads one when it is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS and name not in _HIDDEN:
            return None
        command = getattr(importlib.import_module(f"vfio_kit.cli.{name}_command"), "command")  # noqa: B009
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except VfioKitError as error:
            with contextlib.suppress(OSError):  # stderr may be gone; the exit status is not
                click.secho(f"error: {without_control(error.message)}", fg="red", err=True)
                for line in error.hint.splitlines():
                    click.echo(f"  hint: {without_control(line)}", err=True)
            ctx.exit(error.exit_code)
        except BrokenPipeError:  # the reader of our output went away: head, less
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0 if ctx.invoked_subcommand in _READERS else 1)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            # Of a path that was given: no look at it says so by itself (pathlib, before 3.14).
            path = without_control(str(error.filename))
            click.secho(f"error: {path}: {error.strerror}", fg="red", err=True)
            ctx.exit(UsageError.exit_code)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vfio-kit")
def _cli() -> None:
    """GPU passthrough, end to end: from a GPU that the host cannot drive to a VM that can.

    \b
    Exit status: 0 yes · 1 bug · 2 usage or spec · 3 checked, the answer is no ·
    4 host cannot be examined or changed · 5 libvirt, QEMU or image ·
    6 guest unreachable or timed out
    """


def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # arrows and lines, in a locale without them
    try:
        status = _cli.main(prog_name="vfio-kit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"error: cannot write the output: {error.strerror}", err=True)
        sys.exit(HostError.exit_code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)
