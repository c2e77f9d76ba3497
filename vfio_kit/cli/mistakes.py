"""Mistakes on the command line, as click finds them, in the words and the look of our own errors.

Every one is exit status 2. What is mistyped is answered with what it may have been.
"""

import click

from vfio_kit.errors import UsageError, did_you_mean


class CommandGroup(click.Group):
    """A group that knows a mistyped command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if ctx.resilient_parsing or name[:1] == "-" or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        nearest = did_you_mean(name, self.list_commands(ctx))
        raise UsageError(f"no command {name!r}", f"{nearest}{ctx.command_path} --help lists them")


def as_usage_error(error: click.UsageError, command: str = "vfio-kit") -> UsageError:
    """What click says of a command line, as an error with a hint.

    command  the one that was called, where click does not say.
    """
    ctx = error.ctx
    message = error.format_message()
    hint = f"{ctx.command_path if ctx else command} --help says what it takes"
    if isinstance(error, click.NoSuchOption):
        message = f"no such option {error.option_name}"
        options = _options(ctx) if ctx else []
        hint = did_you_mean(error.option_name, options) + hint
    elif isinstance(error, click.MissingParameter) and ctx is not None:
        hint = f"{_usage(ctx)}\n{hint}"
    message = " ".join(message.split())  # choices stand below each other
    return UsageError(f"{message[:1].lower()}{message[1:]}".rstrip("."), hint)


def _options(ctx: click.Context) -> list[str]:
    parameters = ctx.command.get_params(ctx)
    return [
        name
        for parameter in parameters
        if not getattr(parameter, "hidden", False)
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("-")
    ]


def _usage(ctx: click.Context) -> str:
    """vfio-kit down [OPTIONS] NAME"""
    words = ctx.command.collect_usage_pieces(ctx)
    return " ".join((ctx.command_path, *words))
