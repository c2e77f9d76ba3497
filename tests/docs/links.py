"""Where the links of the manual lead."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.docs.pages import CHECKOUT, Page, Place, manual, read_page

_BARE = re.compile(r"https?://[^\s<>()\"'`]+")
NOT_TO_ASK = (
    # Examples, and addresses of one's own machine.
    re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\]|[^/]*\bexample\b)"),
    # Beginnings of addresses, below which files lie: a folder need not have a listing.
    re.compile(r"https://cloud-images\.ubuntu\.com/|https://cloud\.debian\.org/images/"),
)


def is_external(link: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]*:", link) is not None


def problem(place: Place) -> str | None:
    """Why a link of a page leads nowhere; None for one that leads somewhere, or outside."""
    link = place.text
    if is_external(link):
        return None
    path, _, anchor = link.partition("#")
    source = CHECKOUT / place.page
    target = (source.parent / path).resolve() if path else source
    if link.startswith("/") or not target.is_relative_to(CHECKOUT):
        return "leads out of the repository"
    if not target.exists():
        return "there is no such file"
    if anchor and anchor not in anchors_of(target):
        return f"{target.relative_to(CHECKOUT)} has no heading #{anchor}"
    return None


@cache
def anchors_of(path: Path) -> frozenset[str]:
    return read_page(path).anchors if path.suffix == ".md" else frozenset()


def external_links(pages: tuple[Page, ...] | None = None) -> list[str]:
    """The addresses of other servers that the manual sends a reader to, each once, sorted.

    Those that the tables name as their sources come by the pages that are written from them.
    """
    found = set()
    for page in pages or manual():
        found |= set(_of(page))
    return sorted(found)


def _of(page: Page) -> Iterator[str]:
    for place in (*page.links, *page.words):
        for url in _BARE.findall(place.text):
            bare = url.partition("#")[0].rstrip(".,;:")
            if not any(pattern.match(bare) for pattern in NOT_TO_ASK):
                yield bare
