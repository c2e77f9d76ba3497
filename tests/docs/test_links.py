"""Links of the manual lead somewhere. Those to other servers are asked by a scheduled workflow."""

from pathlib import Path
from typing import Any

import pytest

from tests.docs.links import anchors_of, external_links, is_external, problem
from tests.docs.pages import CHECKOUT, Page, Place, manual, parse_page, read_page, slugify

PAGES = (*manual(), *map(read_page, sorted((CHECKOUT / "tests").rglob("README.md"))))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_link_within_the_repository_leads_somewhere(page: Page) -> None:
    found = {
        f"{place.page}:{place.line}: {place.text}: {why}"
        for place in page.links
        if (why := problem(place))
    }
    assert not found


def test_every_page_is_reached_from_the_site() -> None:
    import yaml

    class Loader(yaml.SafeLoader):
        """Passes over what only MkDocs knows."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    nav = yaml.load((CHECKOUT / "mkdocs.yml").read_text("utf-8"), Loader)["nav"]

    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        return [page for one in inner for page in pages(one)]

    there = {path.relative_to(CHECKOUT / "docs").as_posix() for path in _docs()}
    top = {"index.md", "changelog.md", "contributing.md", "security.md"}
    assert sorted(pages(nav)) == sorted(there | top)


def _docs() -> list[Path]:
    return list((CHECKOUT / "docs").rglob("*.md"))


# The reader.


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Golden images: vfio-kit bake", "golden-images-vfio-kit-bake"),
        ("GPU hosts over SSH: --connect", "gpu-hosts-over-ssh---connect"),
        ("What is whose", "what-is-whose"),
    ],
)
def test_a_heading_has_the_anchor_that_github_gives_it(heading: str, anchor: str) -> None:
    assert slugify(heading) == anchor


def test_a_heading_that_is_there_twice_is_counted() -> None:
    assert parse_page("x.md", "# JSON\n\n## `JSON`\n").anchors == {"json", "json-1"}


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("guest.md", None),
        ("guest.md#the-pins", None),
        ("../CONTRIBUTING.md", None),
        ("https://example.org/", None),
        ("gust.md", "there is no such file"),
        ("guest.md#the-pin", "docs/guest.md has no heading #the-pin"),
        ("../../elsewhere.md", "leads out of the repository"),
        ("/etc/passwd", "leads out of the repository"),
    ],
)
def test_a_link_that_leads_nowhere_is_told(link: str, why: str | None) -> None:
    assert problem(Place("docs/images.md", 1, link)) == why


def test_the_addresses_of_other_servers_are_listed_once_without_their_anchors() -> None:
    text = "[a](https://a.test/x#y), <https://a.test/x>, https://b.test/z. and http://127.0.0.1:8/"
    assert external_links((parse_page("x.md", text),)) == ["https://a.test/x", "https://b.test/z"]
    assert len(external_links()) > 50
    assert all(map(is_external, external_links()))
    assert "the-pins" in anchors_of(CHECKOUT / "docs/guest.md")
