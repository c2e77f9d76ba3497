"""vfio-kit scan"""

from pathlib import Path

import click

from vfio_kit.analysis.isolation import host_findings, judge, judge_together
from vfio_kit.cli import completing
from vfio_kit.cli.common import json_option, print_json, read_named_host, root_option, source_words
from vfio_kit.errors import UsageError
from vfio_kit.model import PciAddress


@click.command("scan")
@click.option(
    "--gpu",
    "gpus",
    multiple=True,
    metavar="ADDR",
    shell_complete=completing.gpus,
    help="Judge this GPU alone, as in 01:00.0; repeated: all for one guest.",
)
@click.option("--tree", "as_tree", is_flag=True, help="Draw root ports, switches and functions.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; the exit status says it.")
@root_option
@click.pass_context
def command(
    ctx: click.Context,
    gpus: tuple[str, ...],
    as_tree: bool,
    as_json: bool,
    quiet: bool,
    root: Path,
) -> None:
    """Say which GPUs can go to a guest, why others cannot, and what the host would lose.

    Exit status 0 when at least one can (with --gpu: when all of them can), 3 when none can. A code
    such as VK101 is told in full by `vfio-kit explain VK101`.
    """
    if as_tree + as_json + quiet > 1:
        raise UsageError("--tree, --json and --quiet exclude each other", "give one of them")
    host = read_named_host(root)
    addresses = dict.fromkeys(map(PciAddress.parse, gpus))
    reports = judge_together(host, addresses) if addresses else judge(host)
    general = host_findings(host)
    if as_json:
        from vfio_kit.cli.scan_json import scan_document

        print_json(scan_document(host, reports, general))
    elif as_tree:
        from vfio_kit.cli.scan_tree import draw_tree

        for line in draw_tree(host, reports):
            click.echo(line)
    elif not quiet:
        from vfio_kit.cli.scan_report import print_report

        print_report(host, reports, general, source=source_words(root), together=bool(gpus))
    able = [report.can_go for report in reports]
    ctx.exit(0 if (all(able) if gpus else any(able)) and able else 3)
