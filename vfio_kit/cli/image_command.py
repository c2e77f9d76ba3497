"""vfio-kit image fetch, list, rm"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from vfio_kit.cli import completing, console
from vfio_kit.cli.common import (
    Command,
    json_option,
    log_file_option,
    print_json,
    sigterm_as_interrupt,
    state_dir_option,
)
from vfio_kit.cli.mistakes import CommandGroup
from vfio_kit.cli.report import Report
from vfio_kit.errors import HostError, Refused, UsageError, VfioKitError, did_you_mean

if TYPE_CHECKING:
    from vfio_kit.apply.image_fetch import Fetched
    from vfio_kit.apply.image_store import StoredImage
    from vfio_kit.knowledge.cloud_images import CloudImage


def _dir_option(function: Command) -> Command:
    return click.option(
        "--dir",
        "--image-dir",
        "folder",
        type=click.Path(path_type=Path, file_okay=False, readable=False),
        default=Path("/var/lib/libvirt/images"),
        envvar="VFIO_KIT_IMAGE_DIR",
        show_default=True,
        help="Where the images are; QEMU's own user must come to it.",
    )(function)


@click.group("image", cls=CommandGroup)
def command() -> None:
    """Download the cloud images of guest systems, and check them.

    What is fetched counts only when it is proven: by a signature of a key that vfio-kit brings
    along, or by a digest that you give.
    """


@command.command("fetch")
@click.argument("guest", shell_complete=completing.image_guests)
@_dir_option
@click.option("--serial", help="One release instead of the newest, by its publisher's name for it.")
@click.option(
    "--sha512",
    "digest",
    metavar="DIGEST",
    help="The digest you trust, where nobody signs the checksums (debian-12).",
)
@click.option(
    "--mirror",
    metavar="URL",
    help="What to ask in the place of the publisher's server; http will do, for what comes is "
    "checked all the same.",
)
@json_option
@log_file_option
def fetch(
    guest: str,
    folder: Path,
    serial: str | None,
    digest: str | None,
    mirror: str | None,
    as_json: bool,
) -> None:
    """Download and verify the image of GUEST; prints its path.

    A broken download is gone on with by the same command. An image that is there already, and is
    still the newest one, is checked and left alone. Exit status 3: it is not what it has to be.
    """
    from vfio_kit.apply.image_fetch import Wanted, fetch_image
    from vfio_kit.apply.web import Web

    row = _row(guest)
    wanted = Wanted(row, serial, digest and digest.lower(), _mirror(mirror))
    report, got = Report(), 0

    def meter(have: int, total: int | None) -> None:
        nonlocal got
        got = have
        report.meter(have, total)

    web = Web(row.hosts if mirror is None else (), report.note, meter, timed=report.timed)
    with sigterm_as_interrupt():
        try:
            fetched = fetch_image(wanted, folder.absolute(), web)
        except KeyboardInterrupt:
            if got:
                report.note(f"{got >> 20} MiB are kept: the same command goes on from there")
            raise
    _say(fetched)
    report.finish(f"{fetched.path.name} is there")
    if as_json:
        document = {"schema": "vfio-kit/image-fetch/1", "new": fetched.new, **_fetched(fetched)}
        print_json({**document, **report.times_json()})
    else:
        click.echo(fetched.path)


@command.command("list")
@_dir_option
@state_dir_option
@json_option
def list_(folder: Path, state_dir: Path, as_json: bool) -> None:
    """Show which images can be fetched, and which are there."""
    from vfio_kit.apply.image_store import stored_images
    from vfio_kit.knowledge.cloud_images import CLOUD_IMAGES

    folder = folder.absolute()
    images = stored_images(folder)
    used = _used_by(images, folder, state_dir)
    if as_json:
        print_json(
            {
                "schema": "vfio-kit/image-list/1",
                "dir": str(folder),
                "available": [_row_json(row) for row in CLOUD_IMAGES.values()],
                "images": [_image_json(image, used) for image in images],
            }
        )
        return
    click.echo("can be fetched:")
    rows = [("GUEST", "FROM", "PROVEN BY")]
    rows += [(row.guest, row.source, _proof(row)) for row in CLOUD_IMAGES.values()]
    _print_table(rows)
    click.echo(f"in {folder}:" if images else f"in {folder}: none")
    if images:
        head = ("FILE", "GUEST", "MIB", "SERIAL", "VERIFIED", "USED BY")
        _print_table([head, *(_image_row(image, used) for image in images)])


@command.command("rm")
@click.argument("file", shell_complete=completing.image_files)
@_dir_option
@state_dir_option
def rm(file: str, folder: Path, state_dir: Path) -> None:
    """Remove an image that vfio-kit put there, unless something stands on it.

    FILE is its name as `image list` has it. There is no way to force it: a disk whose image is gone
    is lost.
    """
    from vfio_kit.apply.image_store import remove_image, stored_images
    from vfio_kit.apply.image_users import is_open, overlays, users

    folder = folder.absolute()
    found = [image for image in stored_images(folder) if image.path == folder / file]
    if not found:
        raise UsageError(
            f"{file!r} is no image that vfio-kit put into {folder}",
            "vfio-kit image list shows those there are",
        )
    (image,) = found
    standing = users(image.path, overlays(folder, state_dir))
    if standing:
        raise Refused(
            f"{image.path} is what these stand on: {', '.join(standing)}",
            "their disks would be lost; a VM goes with: vfio-kit down NAME",
        )
    if is_open(image.path):
        raise Refused(f"{image.path} is open in a running QEMU", f"find it: fuser -v {image.path}")
    remove_image(image)
    console.step(f"removed {image.path}")


def _row(guest: str) -> "CloudImage":
    from vfio_kit.knowledge.cloud_images import CLOUD_IMAGES

    if guest not in CLOUD_IMAGES:
        raise UsageError(
            f"no guest system {guest!r}",
            f"{did_you_mean(guest, CLOUD_IMAGES)}there are: {', '.join(CLOUD_IMAGES)}",
        )
    return CLOUD_IMAGES[guest]


def _mirror(url: str | None) -> str | None:
    """The URL with a slash at its end; raises UsageError for what is no HTTP."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        fit = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:  # brackets, a port that is none, a label that is too long
        fit = False
    if not fit or not re.fullmatch(r"[!-~]+", url):
        raise UsageError(
            f"{url!r} is no URL of http or https",
            "spaces and letters beyond ASCII are written as %20 and the like; "
            "a folder is served by: python3 -m http.server -d FOLDER",
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(f"{url!r}: a mirror is a plain folder, without user, ? and #")
    return url if url.endswith("/") else f"{url}/"


def _say(fetched: "Fetched") -> None:
    """What was done, and what stands in the way of its use."""
    from vfio_kit.apply.files import require_reachable

    record = fetched.record
    by = f"signed by {record.signed_by}" if record.signed_by else "the digest is the one you gave"
    what = "verified" if fetched.new else "unchanged, and verified again"
    console.step(f"{what}: {record.algorithm.upper()} {record.digest[:16]}…; {by}")
    try:
        require_reachable(fetched.path, "image")
    except HostError as error:
        console.warn(f"{error.message}; {error.hint}")


def _fetched(fetched: "Fetched") -> dict[str, Any]:
    from dataclasses import asdict

    return {"path": str(fetched.path), **asdict(fetched.record)}


def _used_by(
    images: list["StoredImage"], folder: Path, state_dir: Path
) -> dict[Path, list[str]] | None:
    """Who stands on each image; None where we cannot know."""
    from vfio_kit.apply.image_users import overlays, users

    if not images:
        return {}
    try:
        known = overlays(folder, state_dir)
    except VfioKitError as error:  # what is there is worth showing without it
        console.warn(f"in use or not: {error.message}")
        return None
    return {image.path: users(image.path, known) for image in images}


def _row_json(row: "CloudImage") -> dict[str, Any]:
    return {
        "guest": row.guest,
        "url": f"{row.origin}{row.latest_folder}{row.latest_file}",
        "source": row.source,
        "algorithm": row.algorithm,
        "signed_by": None if row.key is None else row.key.fingerprint,
    }


def _image_json(image: "StoredImage", used: dict[Path, list[str]] | None) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "path": str(image.path),
        "kind": "baked" if image.record is None else "fetched",
        "guest": image.guest,
        "size": image.size,
        "intact": image.intact,
        "used_by": None if used is None else used[image.path],
        "record": None if image.record is None else asdict(image.record),
    }


def _image_row(image: "StoredImage", used: dict[Path, list[str]] | None) -> tuple[str, ...]:
    record = image.record
    verified = "baked" if record is None else record.verified_at[:10]
    return (
        image.path.name,
        image.guest or "-",
        f"{image.size >> 20}",
        (record.serial if record else None) or "-",
        verified if image.intact else "CHANGED since",
        "?" if used is None else ", ".join(used[image.path]) or "-",
    )


def _proof(row: "CloudImage") -> str:
    if row.key is None:
        return f"no signature there: --{row.algorithm} DIGEST is for you to give"
    return f"signature, key {row.key.fingerprint}"


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    from vfio_kit.analysis.guest.printable import printable

    # Names of files and what manifests say may hold what moves a terminal's cursor.
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(f"  {'  '.join(cells)}".rstrip())
