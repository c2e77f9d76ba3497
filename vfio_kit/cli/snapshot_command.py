"""vfio-kit snapshot"""

from pathlib import Path

import click

from vfio_kit.cli import console
from vfio_kit.cli.common import connected_host, root_option
from vfio_kit.errors import UsageError


@click.command("snapshot")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("vfio-kit-snapshot.tar.gz"),
    show_default=True,
    help="The tarball to write.",
)
@root_option
def command(output: Path, root: Path) -> None:
    """Pack what scan and plan read, to look at it elsewhere.

    There: vfio-kit scan --from FILE; plan and advise take it as well. It holds no serial numbers,
    no MAC or IP addresses, no host, user or volume names; of the kernel's command line the words
    that concern passthrough.
    """
    from vfio_kit.host.machine import names_of
    from vfio_kit.host.snapshot.take import take_snapshot
    from vfio_kit.host.tree import Tree

    if connected_host() is None and not root.is_dir():
        raise UsageError(f"{root} is a snapshot already", "copy it as it is")
    if str(output) == "-":
        raise UsageError("a snapshot is written to a file, not to stdout", "-o FILE")
    # What comes over SSH is one already.
    data = root.read_bytes() if connected_host() else take_snapshot(root, names_of(Tree(root)))
    _write(output, data)
    console.step(f"wrote {output}, {len(data)} bytes")


def _write(output: Path, data: bytes) -> None:
    """A file whole or not at all; what is no file, as /dev/null, is written to and left there."""
    from vfio_kit.apply.files import cannot, target_of, write_file

    try:
        if output.exists() and not output.is_file():
            output.write_bytes(data)
            return
        output = target_of(output)  # a link to a file stays one
    except OSError as error:
        raise cannot("write", output, error) from None
    except RuntimeError:  # of Python 3.12 and older: links that go round
        raise UsageError(f"{output} is a link to itself", "name another file") from None
    write_file(output, data, 0o644)
