"""On a GPU host: the workstation whose command `vfio-kit remote` carries out."""

import shlex
from dataclasses import dataclass

import click

_ORIGIN = "vfio_kit.origin"


@dataclass(frozen=True, slots=True)
class Origin:
    """The workstation of a command that `vfio-kit remote` runs; see Request."""

    uri: str
    login: str


def set_origin(ctx: click.Context, origin: Origin) -> None:
    ctx.meta[_ORIGIN] = origin


def as_typed(command: str) -> str:
    """A command of root's on this host, as the operator types it where they sit."""
    origin = _origin()
    return f"{origin.login} {shlex.quote(f'sudo {command}')}" if origin else command


def next_words() -> str:
    """What a next command of vfio-kit's takes to mean this host: nothing where it is typed here."""
    origin = _origin()
    return f" --connect {shlex.quote(origin.uri)}" if origin else ""


def _origin() -> Origin | None:
    ctx = click.get_current_context(silent=True)
    found = None if ctx is None else ctx.meta.get(_ORIGIN)
    assert found is None or isinstance(found, Origin)
    return found
