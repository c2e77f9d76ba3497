"""The options that make up a VM's spec, and what becomes of them: a spec, and a plan."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vfio_kit.cli.common import read_named_host
from vfio_kit.errors import HostError, UsageError
from vfio_kit.knowledge.findings import HELD_OPEN
from vfio_kit.knowledge.provisioning import CUDAS, DRIVERS
from vfio_kit.model.vm import CudaWay

if TYPE_CHECKING:
    from vfio_kit.model.vm import BakedImage, Claim, UpPlan
    from vfio_kit.spec import BakeSpec, GuestSpec

Command = Callable[..., Any]

# Each option of a spec: its key in the spec file, then the click option.
_SPEC_OPTIONS: tuple[tuple[str, Any], ...] = (
    (
        "gpus",
        click.option(
            "--gpu",
            "gpus",
            multiple=True,
            metavar="ADDR",
            help="GPU to hand over, as in 01:00.0; may be repeated.",
        ),
    ),
    (
        "accept_loss",
        click.option(
            "--accept-loss",
            multiple=True,
            metavar="ADDR",
            help="Hand this device over although the host loses something with it (its console, "
            "a filesystem, a route), or cannot trust its isolation; may be repeated.",
        ),
    ),
    (
        "guest",
        click.option(
            "--guest", metavar="SYSTEM", help="Guest system: ubuntu-22.04 (default) or debian-12."
        ),
    ),
    (
        "image",
        click.option(
            "--image",
            type=click.Path(path_type=Path),
            help="The guest's cloud image; never written to.",
        ),
    ),
    (
        "driver",
        click.option(
            "--driver",
            type=click.Choice(DRIVERS),
            help="NVIDIA driver that cloud-init installs; -open: with the open kernel modules; "
            "auto: the newest that the GPU takes.  [default: 470]",
        ),
    ),
    (
        "cuda",
        click.option(
            "--cuda",
            type=click.Choice(CUDAS),
            help="CUDA toolkit.  [default: 11.4 for driver 470, else the driver's own]",
        ),
    ),
    (
        "cuda_way",
        click.option(
            "--cuda-way",
            type=click.Choice([way.value for way in CudaWay]),
            help="CUDA by single packages of NVIDIA's repository, or by NVIDIA's installer.  "
            "[default: packages]",
        ),
    ),
    (
        "packages",
        click.option(
            "--package",
            "packages",
            multiple=True,
            metavar="NAME",
            help="One more package of the guest's distribution, as NAME or NAME=VERSION; may be "
            "repeated.",
        ),
    ),
    (
        "bundle",
        click.option(
            "--bundle",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Install from this folder, without network in the guest; vfio-kit render "
            "--output bundle makes one.",
        ),
    ),
    ("cpus", click.option("--cpus", type=int, metavar="N", help="Virtual CPUs.  [default: 4]")),
    (
        "memory",
        click.option(
            "--memory",
            type=int,
            metavar="MIB",
            help="Guest memory.  [default: what the GPUs need, 8192 for an M4000]",
        ),
    ),
    (
        "hugepages",
        click.option(
            "--hugepages",
            type=click.Choice(["2M", "1G", "off"]),
            help="Page size of the guest's memory.  [default: 2M]",
        ),
    ),
    (
        "disk",
        click.option(
            "--disk",
            type=int,
            metavar="GIB",
            help="Size of the guest's disk.  [default: 20 where something is installed, 30 with "
            "CUDA by runfile, else the image's]",
        ),
    ),
    (
        "boot.mode",
        click.option(
            "--boot",
            type=click.Choice(["direct", "bios", "uefi"]),
            help="How the kernel is started.  [default: direct with --kernel, else bios]",
        ),
    ),
    (
        "boot.kernel",
        click.option(
            "--kernel", type=click.Path(path_type=Path), help="Guest kernel for a direct boot."
        ),
    ),
    (
        "boot.initrd",
        click.option(
            "--initrd", type=click.Path(path_type=Path), help="Guest initrd for a direct boot."
        ),
    ),
    (
        "network.name",
        click.option("--network", metavar="NAME", help="libvirt network.  [default: default]"),
    ),
    (
        "ssh.identity",
        click.option(
            "--identity",
            type=click.Path(path_type=Path),
            help="A private SSH key of yours to log in with.  [default: one is made for the VM]",
        ),
    ),
    (
        "autostart",
        click.option(
            "--autostart/--no-autostart",
            default=None,
            help="Start the VM when the host boots.  [default: no]",
        ),
    ),
    (
        "placement.pin",
        click.option(
            "--pin/--no-pin",
            default=None,
            help="vCPUs on cores of their own, near the GPU.  [default: pin]",
        ),
    ),
    (
        "placement.node",
        click.option(
            "--numa-node",
            type=int,
            metavar="N",
            help="NUMA node of the guest's memory and CPUs.  [default: the GPU's]",
        ),
    ),
)

_PARAMETER = {
    "boot.mode": "boot",
    "boot.kernel": "kernel",
    "boot.initrd": "initrd",
    "network.name": "network",
    "ssh.identity": "identity",
    "placement.pin": "pin",
    "placement.node": "numa_node",
}


_NOT_FOR_BAKE = (
    *("gpus", "accept_loss", "memory", "hugepages", "autostart", "ssh.identity"),
    *("placement.pin", "placement.node"),  # a VM for once is the kernel's to place
)
_BAKE_OPTIONS = (
    # The GPUs of a spec file stay where they are, and a VM without one pins no memory.
    *(row for row in _SPEC_OPTIONS if row[0] not in _NOT_FOR_BAKE),
    (
        "memory",
        click.option("--memory", type=int, metavar="MIB", help="The VM's memory.  [default: 4096]"),
    ),
    (
        "capabilities",
        click.option(
            "--cc",
            "capabilities",
            multiple=True,
            metavar="X.Y",
            help="Compute capability of a card that the image is for, as in 5.2; may be repeated.",
        ),
    ),
)


def spec_options(function: Command) -> Command:
    """The options that make up a spec, and --spec FILE beneath them."""
    return _with_options(function, _SPEC_OPTIONS)


def bake_options(function: Command) -> Command:
    """The options that make up the spec of an image, and --spec FILE beneath them."""
    return _with_options(function, _BAKE_OPTIONS)


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

    options = _taken(name, _SPEC_OPTIONS, values)
    return load_spec(spec_file, options, saved if spec_file is None else None)


def bake_spec_from(spec_file: Path | None, name: str, values: dict[str, Any]) -> "BakeSpec":
    """As spec_from, for an image that is to be made."""
    from vfio_kit.spec import load_bake_spec

    return load_bake_spec(spec_file, _taken(name, _BAKE_OPTIONS, values))


def _taken(
    name: str | None, rows: tuple[tuple[str, Any], ...], values: dict[str, Any]
) -> dict[str, Any]:
    options: dict[str, Any] = {"name": name}
    for key, _ in rows:
        options[key] = _for_spec(values.pop(_PARAMETER.get(key, key)))
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
    from vfio_kit.apply.image_store import fetched_image

    if spec.image is not None:
        return spec
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
