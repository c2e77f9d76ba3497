"""The site builds without a warning, and asks nothing of any other server."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.docs.pages import CHECKOUT, manual

pytestmark = pytest.mark.edge

_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preconnect|preload|icon|manifest))"
    r"[^>]*\bhref=[\"']?(?:https?:)?//[^>]*"
)
_IN_STYLES = re.compile(r"@import[^;]*//|url\([\"']?(?:https?:)?//[^)]*\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=CHECKOUT,
        env=dict(os.environ, NO_MKDOCS_2_WARNING="1"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return folder


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    assert len(pages) > 30
    assert not {
        path.name: _FETCHED.findall(text) for path, text in pages.items() if _FETCHED.search(text)
    }
    styles = {path: path.read_text("utf-8") for path in site.rglob("*.css")}
    assert styles
    assert not {p.name: _IN_STYLES.findall(t) for p, t in styles.items() if _IN_STYLES.search(t)}


def test_what_stands_at_the_top_of_the_repository_is_in_it(site: Path) -> None:
    for page in ("index", "changelog", "contributing", "security"):
        assert (site / f"{page}.html").exists()
    text = (site / "index.html").read_text("utf-8")
    assert "docs/" not in re.findall(r"href=\"([^\"]*)\"", text)
    assert "guest.html" in text


def test_schemas_that_pages_link_to_are_in_it(site: Path) -> None:
    there = {path.name for path in (site / "repository/vfio_kit/schemas").iterdir()}
    assert there == {path.name for path in (CHECKOUT / "vfio_kit/schemas").iterdir()}


def test_the_site_reads_lists_and_code_as_github_does(site: Path) -> None:
    """Two dialects of Markdown: they differ in what belongs to an item. Four spaces serve both."""
    markdown = MarkdownIt("commonmark").enable("table")
    for page in manual():
        here = markdown.render((CHECKOUT / page.path).read_text("utf-8"))
        text = (site / _built(page.path)).read_text("utf-8")
        (there,) = re.findall(r"<article\b.*?</article>", text, re.DOTALL)
        assert _structure(there) == _structure(here), page.path


def _built(path: str) -> str:
    if path == "README.md":
        return "index.html"
    name = path.removeprefix("docs/") if path.startswith("docs/") else path.lower()
    return f"{name.removesuffix('.md')}.html"


def _structure(html: str) -> Counter[str]:
    return Counter(re.findall(r"<(li|ol|ul|pre|table|h2|h3|strong)\b", html))
