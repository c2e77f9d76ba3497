"""What becomes of the options that make up a VM's spec: a spec, and a plan."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vfio_kit.cli.common import read_named_host
from vfio_kit.cli.spec_table import BAKE_OPTIONS, PARAMETER, SPEC_OPTIONS
from vfio_kit.errors import HostError, UsageError
from vfio_kit.knowledge.findings import HELD_OPEN

if TYPE_CHECKING:
    from vfio_kit.model.placement import Claim
    from vfio_kit.model.vm import BakedImage, UpPlan
    from vfio_kit.spec import BakeSpec, GuestSpec

Command = Callable[..., Any]


def spec_options(function: Command) -> Command:
    """The options that make up a spec, and --spec FILE beneath them."""
    return _with_options(function, SPEC_OPTIONS)


def bake_options(function: Command) -> Command:
    """The options that make up the spec of an image, and --spec FILE beneath them."""
    return _with_options(function, BAKE_OPTIONS)


def _with_options(function: Command, rows: tuple[tuple[str, Any], ...]) -> Command:
    for _, option in reversed(rows):
        function = option(function)
    return click.option(
        "--spec",
        "spec_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Spec file (TOML); options given beside it win.",
    )(function)


def spec_from(
    spec_file: Path | None,
    name: str | None,
    values: dict[str, Any],
    saved: Mapping[str, Any] | None = None,
) -> "GuestSpec":
    """The spec of a command's parameters; takes the spec's options out of `values`.

    saved  the spec of a plan that was written down: it serves where no file is given.
    """
    from vfio_kit.spec import load_spec

    options = _taken(name, SPEC_OPTIONS, values)
    return load_spec(spec_file, options, saved if spec_file is None else None)


def bake_spec_from(spec_file: Path | None, name: str, values: dict[str, Any]) -> "BakeSpec":
    """As spec_from, for an image that is to be made."""
    from vfio_kit.spec import load_bake_spec

    return load_bake_spec(spec_file, _taken(name, BAKE_OPTIONS, values))


def _taken(
    name: str | None, rows: tuple[tuple[str, Any], ...], values: dict[str, Any]
) -> dict[str, Any]:
    options: dict[str, Any] = {"name": name}
    for key, _ in rows:
        options[key] = _for_spec(values.pop(PARAMETER.get(key, key)))
    return options


def _for_spec(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, tuple):
        return list(value) or None
    return value


_Spec = TypeVar("_Spec", "GuestSpec", "BakeSpec")


def with_fetched_image(spec: _Spec, image_dir: Path) -> _Spec:
    """The spec with the image that was fetched for its guest system, where it names none."""
    if spec.image is not None:
        return spec
    from vfio_kit.apply.image_store import fetched_image

    try:
        found = fetched_image(spec.guest, image_dir.absolute())
    except HostError:  # a folder that this user may not look into: `plan` needs no image
        return spec
    return spec if found is None else spec.model_copy(update={"image": str(found)})


def require_printable(*folders: Path) -> None:
    """Raises UsageError for a path that XML or a terminal could not take."""
    for folder in folders:
        if not str(folder).isprintable():
            raise UsageError(f"the path {str(folder)!r} holds a control character")


def plan_from(
    root: Path,
    spec: "GuestSpec",
    state_dir: Path,
    image_dir: Path,
    tolerated: frozenset[str] = frozenset(),
    baked: "BakedImage | None" = None,
) -> "UpPlan":
    """Reads the host and plans; `tolerated` and `baked` as make_plan takes them.

    Of an image that lies on this machine its manifest says what it holds, if it has one.
    """
    from vfio_kit.plan import make_plan

    require_printable(state_dir, image_dir)
    claims: tuple[Claim, ...] = ()
    host_id = ""
    if root == Path("/"):
        claims = claims_beside(state_dir.absolute(), spec.name, tolerated)
        host_id = this_host()
        spec = with_fetched_image(spec, image_dir)
        if baked is None and spec.image:
            from vfio_kit.apply.manifest import baked_image

            baked = baked_image(Path(spec.image))
    host = read_named_host(root)
    return make_plan(
        host,
        spec,
        state_dir=str(state_dir.absolute()),
        image_dir=str(image_dir.absolute()),
        tolerated=tolerated,
        baked=baked,
        claims=claims,
        host_id=host_id,
    )


def claims_beside(state_dir: Path, name: str, tolerated: frozenset[str]) -> "tuple[Claim, ...]":
    """What the VMs here, beside that of this name, have, as far as this user may know.

    Where it is tolerated that a process has the devices open, a VM may have them as well.
    """
    from vfio_kit.apply.claims import claims_of

    try:
        claims = claims_of(state_dir, but=name)
    except HostError:
        return ()
    if HELD_OPEN.code not in tolerated:
        return claims
    return tuple(replace(claim, functions=frozenset()) for claim in claims)


def this_host() -> str:
    """What tells this host from others, and nothing else of it: machine-id(5) asks not to give its
    value away. Empty where it has none."""
    try:
        machine_id = Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""
    return hashlib.sha256(f"vfio-kit {machine_id}".encode()).hexdigest() if machine_id else ""
