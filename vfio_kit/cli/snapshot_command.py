"""vfio-kit snapshot"""

from pathlib import Path

import click

from vfio_kit.cli.common import root_option, step


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

    Unpack it there, and: vfio-kit scan --root DIR. It holds no serial numbers, no MAC addresses, no
    host name; of the kernel command line the words that concern an IOMMU.
    """
    from vfio_kit.apply.files import write_file
    from vfio_kit.host.snapshot import take_snapshot

    data = take_snapshot(root)
    write_file(output.absolute(), data, 0o644)
    step(f"wrote {output}, {len(data)} bytes")
