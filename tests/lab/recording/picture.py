"""A cast as an SVG that moves by CSS alone: no script, no font, no other file.

Each chapter is a page, whose title stands above; the pages follow one another without end.  Where
nothing moves (a converter, a reader who wants it so), one page stands still.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from .cast import Cast
from .pace import Shown, pace
from .screen import Chapter, Row, Run, chapters

ROWS = 40
"""Rows that a page shows at most: its last ones."""
_CELL, _LINE, _PAD, _BAR, _FOOT = 8.4, 19, 18, 44, 54
_FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
_COLOURS = {
    "default": "#e6edf3",
    "black": "#6e7681",
    "red": "#ff7b72",
    "green": "#3fb950",
    "brown": "#d29922",
    "blue": "#58a6ff",
    "magenta": "#bc8cff",
    "cyan": "#39c5cf",
    "white": "#b1bac4",
    "brightblack": "#8b949e",
    "brightred": "#ffa198",
    "brightgreen": "#56d364",
    "brightbrown": "#e3b341",
    "brightblue": "#79c0ff",
    "brightmagenta": "#d2a8ff",
    "brightcyan": "#56d4dd",
    "brightwhite": "#ffffff",
}

Span = tuple[float, float]
"""From and until when something is seen, in seconds of the picture."""


@dataclass(frozen=True, slots=True)
class Element:
    """A piece of SVG, and when it is seen; still: also where nothing moves."""

    svg: str
    spans: tuple[Span, ...]
    still: bool = False


def picture(cast: Cast, still: str) -> str:
    """The SVG; still: the title of the chapter that is seen where nothing moves."""
    pages = [(chapter, pace(chapter)) for chapter in chapters(cast)]
    rows = min(ROWS, max(len(shown.frame.rows) for _, page in pages for shown in page))
    width = round(cast.width * _CELL) + 2 * _PAD
    height = _BAR + rows * _LINE + _FOOT
    elements: list[Element] = []
    begin = 0.0
    for number, (chapter, page) in enumerate(pages):
        end = begin + sum(shown.seconds for shown in page)
        stays = chapter.title == still
        titles = [chapter.title for chapter, _ in pages]
        elements.append(Element(_tab(titles, number, width), ((begin, end),), stays))
        elements += _page(page, begin, rows, stays)
        begin = end
    body, style = _animated(elements, begin)
    return "".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">\n',
            f"<title>{escape(_title(pages))}</title>\n<desc>{escape(cast.origin())}</desc>\n",
            f"<style>{_base_style()}{style}</style>\n",
            f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" fill="#0d1117" '
            'stroke="#30363d"/>\n',
            f'<path d="M1 {_BAR - 12}H{width - 1}M1 {height - 44}H{width - 1}" '
            'stroke="#30363d"/>\n',
            body,
            _foot(cast, height),
            "</svg>\n",
        )
    )


def _title(pages: Sequence[tuple[Chapter, tuple[Shown, ...]]]) -> str:
    return "vfio-kit in the virtual host: " + ", ".join(chapter.title for chapter, _ in pages)


def _page(page: Sequence[Shown], begin: float, rows: int, stays: bool) -> list[Element]:
    """The rows of a page; each variant of a row once, with all the times at which it is seen."""
    spans: dict[tuple[int, Row], list[Span]] = defaultdict(list)
    at = begin
    for shown in page:
        until = at + shown.seconds
        for y, row in enumerate(shown.frame.rows[-rows:]):
            seen = spans[y, row]
            if seen and seen[-1][1] == at:
                seen[-1] = (seen[-1][0], until)
            else:
                seen.append((at, until))
        at = until
    final = page[-1].frame.rows[-rows:]
    return [
        Element(_row(row, y), tuple(seen), stays and final[y : y + 1] == (row,))
        for (y, row), seen in spans.items()
        if row
    ]


def _row(row: Row, y: int) -> str:
    runs = "".join(_run(run) for run in row)
    return f'<text y="{_BAR + 14 + y * _LINE}">{runs}</text>'


def _run(run: Run) -> str:
    style = f' class="{_class(run)}"' if _class(run) else ""
    colour = run.style.colour
    fill = "" if colour in _COLOURS else f' fill="#{colour}"'
    length = "" if len(run.text) == 1 else f' textLength="{_number(len(run.text) * _CELL)}"'
    x = _number(_PAD + run.column * _CELL)
    return f'<tspan x="{x}"{length}{style}{fill}>{escape(run.text, quote=False)}</tspan>'


def _class(run: Run) -> str:
    colour = run.style.colour
    names = [colour] if colour in _COLOURS and colour != "default" else []
    return " ".join([*names, *(["b"] if run.style.bold else [])])


def _tab(titles: Sequence[str], current: int, width: int) -> str:
    """The titles of all pages, with the current one lit."""
    x = float(_PAD)
    parts = []
    for number, title in enumerate(titles):
        lit = number == current
        name = "tab b" if lit else "tab"
        parts.append(f'<text x="{_number(x)}" y="21" class="{name}">{escape(title)}</text>')
        if lit:
            line = f"M{_number(x)} {_BAR - 12}h{_number(len(title) * _CELL)}"
            parts.append(f'<path d="{line}" stroke="#58a6ff" stroke-width="2"/>')
        x += (len(title) + 3) * _CELL
    return "".join(parts)


def _foot(cast: Cast, height: int) -> str:
    words = (
        "Waits are shortened here; the seconds that are printed are the real ones.",
        f"Recorded {cast.origin()}",
    )
    lines = (
        f'<text x="{_PAD}" y="{height - 26 + 16 * index}" class="foot">{escape(line)}</text>\n'
        for index, line in enumerate(words)
    )
    return "".join(lines)


def _base_style() -> str:
    colours = "".join(
        f".{name}{{fill:{value}}}" for name, value in _COLOURS.items() if name != "default"
    )
    return (
        f"text{{font:14px {_FONT};fill:{_COLOURS['default']};white-space:pre}}{colours}"
        ".b{font-weight:bold}.tab{fill:#8b949e}.tab.b{fill:#e6edf3}"
        "text.foot{font-size:11px;fill:#8b949e}.k{visibility:hidden}.k.s{visibility:visible}"
        "@media(prefers-reduced-motion:reduce){.k{animation:none!important}}"
    )


def _animated(elements: Iterable[Element], total: float) -> tuple[str, str]:
    """The elements in groups that are seen at the same times, and the groups' animations."""
    groups: dict[tuple[tuple[Span, ...], bool], list[str]] = defaultdict(list)
    for element in elements:
        groups[element.spans, element.still].append(element.svg)
    body, style = [], []
    names: dict[tuple[Span, ...], str] = {}
    for (spans, still), svg in groups.items():
        if spans not in names:
            name = names[spans] = f"k{len(names)}"
            style.append(f"@keyframes {name}{{{_keyframes(spans, total)}}}")
            style.append(f".{name}{{animation:{name} {_number(total)}s step-end infinite}}")
        marks = f"k {names[spans]}{' s' if still else ''}"
        body.append(f'<g class="{marks}">{"".join(svg)}</g>\n')
    return "".join(body), "".join(style)


def _keyframes(spans: Iterable[Span], total: float) -> str:
    """Visible within the spans; `step-end` keeps each state until the next."""
    states = {0.0: "hidden"}
    for start, end in spans:
        states[start / total * 100] = "visible"
        states[end / total * 100] = "hidden"
    return "".join(
        f"{_number(at, 3)}%{{visibility:{state}}}" for at, state in sorted(states.items())
    )


def _number(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")
