"""What the shells complete: values that stand in tables or on this machine; docs: completion -h.

Each function is a `shell_complete=` of click: what was typed comes in, what could stand there goes
out. Where something cannot be read there is nothing to complete: no word, no error.
"""

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vfio_kit.cli.context import CONNECTED_TO, SNAPSHOT_OF
from vfio_kit.errors import VfioKitError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Values = Iterable[tuple[str, str | None]]
"""Each with what it is."""
_Source = Callable[[click.Context, str], Values]
Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem[str]]"]


def _completer(source: _Source) -> Completer:
    """Of all values those that begin as what was typed does, and are not given already."""

    @functools.wraps(source)
    def complete(
        ctx: click.Context, parameter: click.Parameter, incomplete: str
    ) -> "list[CompletionItem[str]]":
        from click.shell_completion import CompletionItem

        given = ctx.params.get(parameter.name or "")
        given = set(given) if isinstance(given, tuple) else ()
        try:
            values = list(source(ctx, incomplete))
        except (OSError, ValueError, RuntimeError, VfioKitError):  # RuntimeError: nobody's home
            return []
        return [
            CompletionItem(value, help=what)
            for value, what in values
            if value.startswith(incomplete) and value not in given and value.isprintable()
        ]

    return complete


def _is_elsewhere(ctx: click.Context) -> bool:
    """Whether another host is asked, which would have to be waited for."""
    return bool(ctx.meta.get(CONNECTED_TO) or ctx.params.get("connect"))


@_completer
def gpus(ctx: click.Context, incomplete: str) -> Values:
    """The GPUs of the machine that the command reads; without the domain 0000, as users type it."""
    from vfio_kit.host.display import display_controllers

    if _is_elsewhere(ctx):
        return
    root = ctx.meta.get(SNAPSHOT_OF) or ctx.params.get("root") or "/"
    for gpu in display_controllers(Path(root)):
        address = str(gpu.address)
        short = address.removeprefix("0000:")
        yield short if short.startswith(incomplete) else address, gpu.name


@_completer
def vm_names(ctx: click.Context, _incomplete: str) -> Values:
    """The VMs of this host, also those that are down and kept to be read."""
    from vfio_kit.apply.journal import folders

    state_dir = ctx.params.get("state_dir")
    if state_dir is None or _is_elsewhere(ctx):
        return
    for folder in folders(state_dir):
        yield folder.name, None


@_completer
def guests(_ctx: click.Context, _incomplete: str) -> Values:
    from vfio_kit.knowledge.guests import GUESTS

    return ((guest.id, guest.title) for guest in GUESTS.values())


@_completer
def image_guests(_ctx: click.Context, _incomplete: str) -> Values:
    """The guest systems whose images can be fetched."""
    from vfio_kit.knowledge.cloud_images import CLOUD_IMAGES

    return ((image.guest, image.source) for image in CLOUD_IMAGES.values())


@_completer
def outputs(_ctx: click.Context, _incomplete: str) -> Values:
    from vfio_kit.render import OUTPUTS

    return ((output.name, output.what) for output in OUTPUTS.values())


@_completer
def finding_codes(_ctx: click.Context, incomplete: str) -> Values:
    """VK101 for VK1, for vk1 and for 1."""
    from vfio_kit.knowledge.findings import FINDING_KINDS

    kinds = ((kind.code, kind.title) for kind in FINDING_KINDS)
    if incomplete.upper().startswith("VK"):
        return ((incomplete[:2] + code[2:], title) for code, title in kinds)
    return ((code[2:] if incomplete else code, title) for code, title in kinds)


@_completer
def gpu_ids(_ctx: click.Context, _incomplete: str) -> Values:
    """Of the GPUs that the shipped table names."""
    from vfio_kit.knowledge.gpu_names import SHIPPED_NAMES

    return ((f"{ids[0]:04x}:{ids[1]:04x}", name) for ids, name in SHIPPED_NAMES.items())


@_completer
def gpu_names(_ctx: click.Context, _incomplete: str) -> Values:
    """As they stand on the box: Tesla K80 of GK210GL [Tesla K80]."""
    from vfio_kit.knowledge.gpu_names import SHIPPED_NAMES

    names = (name.partition("[") for name in SHIPPED_NAMES.values())
    return ((name.rstrip("]"), chip.strip()) for chip, _, name in names if name)


@_completer
def capabilities(_ctx: click.Context, _incomplete: str) -> Values:
    """The compute capabilities that NVIDIA's chips have."""
    from vfio_kit.knowledge.gpus import FAMILIES

    known: dict[str, str] = {}
    for family in FAMILIES:
        known.setdefault(str(family.compute_capability), family.architecture)
    return known.items()


@_completer
def image_files(ctx: click.Context, _incomplete: str) -> Values:
    """The images that vfio-kit put into the folder, by their names there."""
    from vfio_kit.apply.image_store import stored_images

    folder = ctx.params.get("folder")
    if folder is None:
        return
    for image in stored_images(folder.absolute()):
        yield image.path.name, image.guest


@_completer
def _image_paths(ctx: click.Context, _incomplete: str) -> Values:
    from vfio_kit.apply.image_store import stored_images

    folder = ctx.params.get("image_dir") or Path("/var/lib/libvirt/images")
    return ((str(image.path), image.guest) for image in stored_images(folder.absolute()))


@_completer
def ssh_hosts(ctx: click.Context, incomplete: str) -> Values:
    """Those that ssh_config(5) names without a pattern, behind USER@ where that was typed."""
    user = incomplete[: incomplete.rfind("@") + 1]
    return ((user + host, None) for host in _hosts_in(ctx.params.get("ssh_config")))


@_completer
def uris(_ctx: click.Context, incomplete: str) -> Values:
    """Of the hosts that ssh_config(5) names."""
    user = incomplete.removeprefix(_SSH)
    user = user[: user.rfind("@") + 1]
    return ((f"{_SSH}{user}{host}/system", None) for host in _hosts_in(None))


_SSH = "qemu+ssh://"


def _hosts_in(file: Path | None) -> Iterable[str]:
    text = (file or Path.home() / ".ssh/config").read_text(errors="replace")
    for line in text.splitlines():
        word, *names = line.split() or [""]
        if word.lower() == "host":
            yield from (name for name in names if not set(name) & set("*?!"))


@_completer
def expectations(_ctx: click.Context, incomplete: str) -> Values:
    """The keys of --expect, behind those that are there already."""
    from vfio_kit.analysis.guest.expect import KEYS

    before = incomplete[: incomplete.rfind(",") + 1]
    return ((f"{before}{key.name}=", key.kind.value) for key in KEYS)


def images(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem[str]]":
    """The paths of the images that vfio-kit put into the folder of images, else any file."""
    from click.shell_completion import CompletionItem

    return _image_paths(ctx, parameter, incomplete) or [CompletionItem(incomplete, type="file")]


def any_file(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem[str]]":
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def any_folder(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem[str]]":
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]
