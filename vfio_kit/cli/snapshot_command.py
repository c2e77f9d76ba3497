"""vfio-kit snapshot"""

from pathlib import Path

import click

from vfio_kit.cli.common import root_option, step
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
    from vfio_kit.apply.files import write_file
    from vfio_kit.host.machine import names_of
    from vfio_kit.host.snapshot import take_snapshot
    from vfio_kit.host.tree import Tree

    if not root.is_dir():
        raise UsageError(f"{root} is a snapshot already", "copy it as it is")
    data = take_snapshot(root, names_of(Tree(root)))
    write_file(output.absolute(), data, 0o644)
    step(f"wrote {output}, {len(data)} bytes")
