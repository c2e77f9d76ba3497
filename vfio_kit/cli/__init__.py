"""The command line: the only place that prints. stdout has the result, stderr the progress."""

import errno
import importlib
import os
import sys
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli import console
from vfio_kit.cli.mistakes import CommandGroup, as_usage_error
from vfio_kit.errors import HostError, UsageError, VfioKitError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SECTIONS: dict[str, dict[str, str]] = {
    "look": {
        "scan": "which GPUs can go to a guest, and why others cannot",
        "explain": "the whole story behind a finding: VK101 and so on",
        "advise": "driver and CUDA for a GPU, and whether it needs a guest",
        "snapshot": "pack what scan and plan read, to look at it elsewhere",
    },
    "prepare": {
        "plan": "what `up` will do, step by step, and what undoes it",
        "render": "the files: domain XML, QEMU script, cloud-init seed",
        "image": "download and check the cloud images of guest systems",
        "bake": "make an image that has driver, CUDA and packages in it",
    },
    "run": {
        "up": "take a GPU into a running VM that answers over SSH",
        "verify": "prove the GPUs in guests, rung by rung, to deviceQuery",
        "list": "the VMs that are up",
        "stop": "switch a VM off, and keep it",
        "start": "switch a VM on again, with its devices and hugepages",
    },
    "undo": {
        "down": "stop a VM and put the host back",
        "repair": "tell what a crash or a reboot left of VMs, and mend it",
    },
    "shell": {
        "completion": "the script that completes all this in bash, zsh, fish",
    },
}
"""The commands in the order of the work, each with what it does in a line."""

_COMMANDS = {name: what for section in SECTIONS.values() for name, what in section.items()}
"""Each is imported when it is called, and what it needs with it."""

_BELOW = """
Options: -h, --help (also of each command), --version, --no-color
Exit status: 0 yes · 1 bug · 2 usage · 3 no · 4 host · 5 libvirt · 6 guest
"""

_HIDDEN = ("remote",)
"""Started by another vfio-kit."""

_READERS = ("scan", "explain", "advise", "plan", "list", "completion")
"""Commands whose output is all they do: a reader that stops reading has what it wanted."""

_INTERRUPTED = 130
"""As a shell has it for a program that SIGINT ended."""


class _Commands(CommandGroup):
    """Knows its commands by name; loads one when it is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS and name not in _HIDDEN:
            return None
        command = getattr(importlib.import_module(f"vfio_kit.cli.{name}_command"), "command")  # noqa: B009
        assert isinstance(command, click.Command)
        console.take_no_color(command)
        return command

    def format_options(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections stand beside their commands, so that all fits a screen."""
        formatter.write_paragraph()
        for section, commands in SECTIONS.items():
            heads = chain([section], repeat(""))
            for head, (name, what) in zip(heads, commands.items(), strict=False):
                formatter.write(f"  {head:<8} {name:<11} {what}\n")
        formatter.write(_BELOW)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem[str]]":
        """By the table: no command is imported for its line of help."""
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=what)
            for name, what in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if _is_help(error):
                raise
            mistake = as_usage_error(error)
            console.error(mistake.message, mistake.hint)
            raise click.exceptions.Exit(UsageError.exit_code) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except VfioKitError as error:
            console.error(error.message, error.hint)
            ctx.exit(error.exit_code)
        except click.UsageError as error:
            if _is_help(error):
                raise
            mistake = as_usage_error(error, f"vfio-kit {ctx.invoked_subcommand or ''}".strip())
            console.error(mistake.message, mistake.hint)
            ctx.exit(mistake.exit_code)
        except BrokenPipeError:  # the reader of our output went away: head, less
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0 if ctx.invoked_subcommand in _READERS else 1)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            # Of a path that was given: no look at it says so by itself (pathlib, before 3.14).
            console.error(f"{error.filename}: {error.strerror}")
            ctx.exit(UsageError.exit_code)


def _is_help(error: click.UsageError) -> bool:
    """A group without a command says what there is (click 8.2 and later)."""
    kind = getattr(click.exceptions, "NoArgsIsHelpError", None)
    return kind is not None and isinstance(error, kind)


def _print_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from vfio_kit.revision import version_words

        click.echo(f"vfio-kit {version_words()}")
        ctx.exit()


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version, with the commit where it is known, and exit.",
)
def _cli() -> None:
    """From a GPU that the host cannot drive to a VM that can, and back."""


_cli.params.append(console.color_option())


def main() -> None:
    """The console script."""
    instruction = os.environ.get("_VFIO_KIT_COMPLETE")
    if instruction:
        from vfio_kit.cli.shells import answer

        sys.exit(answer(_cli, instruction))
    console.prepare_streams()
    try:
        _run()
    finally:
        console.settle_stderr()


def _run() -> None:
    try:
        status = _cli.main(prog_name="vfio-kit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        console.error(f"cannot write the output: {error.strerror}")
        sys.exit(HostError.exit_code)
    except click.Abort:
        console.say("interrupted")
        sys.exit(_INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)
