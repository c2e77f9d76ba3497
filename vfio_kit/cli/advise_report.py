"""The report of `advise` for people: the verdict, then what it rests on, in 80 columns."""

import textwrap

import click

from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.model import PciAddress
from vfio_kit.model.advice import Advice, BranchAnswer, UnknownGpu, Way

_WIDTH = 80
_LABEL = 14
_COLOURS = {Way.PASSTHROUGH: "yellow", Way.NOT_NEEDED: "green", Way.UNDECIDED: "yellow"}


def print_advice(
    advice: Advice, address: PciAddress | None, matches: tuple[Advice, ...], source: str
) -> None:
    """`source`: the options that name the machine again in the next command."""
    one = advice.recommendation
    click.secho(textwrap.fill(one.summary, _WIDTH), fg=_COLOURS[one.way], bold=True)
    _line("card", f"{_where(advice.ids, address)} {advice.name}")
    if len(matches) > 1:
        _line("also", ", ".join(match.ids for match in matches[1:]))
    last = f"to {advice.last_cuda}" if advice.last_cuda else "and newer"
    _line("chip", f"{advice.chip}, {advice.architecture}, capability {advice.compute_capability}")
    _line("toolkits", f"CUDA {advice.first_cuda} {last}")
    click.echo(f"  {'driver':<{_LABEL + 4}}CUDA  builds on, and guest systems with it; or why not")
    for branch in advice.branches:
        _row(str(branch.branch), branch.answer.supported, str(branch.cuda or ""), _fit(branch))
    _row("open modules", advice.open_modules.supported, "", advice.open_modules.reason)
    _row("nouveau", advice.nouveau.supported, "", advice.nouveau.reason)
    _line("Ollama", _ollama(advice))
    kernel = f"Linux {advice.host.kernel}; " if advice.host.kernel else ""
    _line("this host", kernel + advice.host.reason)
    if one.way is not Way.NOT_NEEDED:
        _line("guest", _guest(advice))
    for note in one.notes:
        _line("note", note)
    click.echo(f"next: {_next(advice, address, source)}")
    click.echo("sources: every answer's stands in the output of --json")


def print_unknown(unknown: UnknownGpu, address: PciAddress | None) -> None:
    what = " ".join(
        word for word in (_where(unknown.ids or "", address), unknown.name or "") if word
    )
    click.echo(textwrap.fill(f"unknown: {what}: {unknown.reason}", _WIDTH))


def _where(ids: str, address: PciAddress | None) -> str:
    return ids if address is None else f"{address} {ids}"


def _line(label: str, text: str) -> None:
    click.echo(
        textwrap.fill(
            text,
            _WIDTH,
            initial_indent=f"  {label:<{_LABEL}}",
            subsequent_indent=" " * (_LABEL + 2),
            break_on_hyphens=False,
        )
    )


def _row(label: str, supported: bool, cuda: str, why: str) -> None:
    """A row of the table. The colour comes after the wrapping, which would count it."""
    word = "yes" if supported else "no"
    column = " " * (_LABEL + 2 + 4 + 6)
    body = textwrap.wrap(why, _WIDTH - len(column), break_on_hyphens=False) or [""]
    mark = click.style(f"{word:<4}", fg="green" if supported else "red")
    click.echo(f"  {label:<{_LABEL}}{mark}{cuda:<6}{body[0]}")
    for line in body[1:]:
        click.echo(column + line)


def _fit(branch: BranchAnswer) -> str:
    if not branch.answer.supported:
        return branch.answer.reason
    ranges = [str(one) for one in branch.kernels if one.stable]
    builds = f"Linux {', '.join(ranges)}" if ranges else "no kernel known"
    guests = ", ".join(one.guest for one in branch.guests)
    return f"{builds}; {guests}" if guests else builds


def _ollama(advice: Advice) -> str:
    answer = advice.ollama
    text = f"{answer.version or 'none'} on driver {answer.driver}: {answer.reason}"
    others = [one.driver for one in advice.recommendation.alternatives]
    for branch in advice.branches:
        if branch.branch in others and branch.ollama:
            text += f"; {branch.ollama} on driver {branch.branch}"
    return text


def _guest(advice: Advice) -> str:
    one = advice.recommendation
    if one.guest is None:
        return f"none of vfio-kit's guests carries driver {one.driver}: {', '.join(GUESTS)}"
    if one.installed:
        return f"{one.guest}, where vfio-kit installs driver {one.driver}"
    packages = {
        p.guest: p.package for b in advice.branches if b.branch == one.driver for p in b.guests
    }
    return f"{one.guest}: plan it with --driver none, and install its {packages[one.guest]} there"


def _next(advice: Advice, address: PciAddress | None, source: str) -> str:
    if advice.recommendation.way is Way.NOT_NEEDED:
        return f"nothing; vfio-kit scan{source}, if you want the card isolated"
    return f"vfio-kit scan{source}" if address is None else f"vfio-kit scan --gpu {address}{source}"
