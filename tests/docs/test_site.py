"""The site builds without a warning, and asks nothing of any other server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import CHECKOUT

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


def test_steps_of_a_remedy_hold_their_commands(site: Path) -> None:
    """Markdown of the site and of GitHub differ in what belongs to a numbered step."""
    text = (site / "findings.html").read_text("utf-8")
    (vk101,) = re.findall(r"<h2 id=\"vk101\">.*?<h2 id=\"vk102\">", text, re.DOTALL)
    assert vk101.count("<ol>") == 1
    assert re.search(r"<li>\s*<p>See what is in the group.*?<pre>.*?</li>", vk101, re.DOTALL)
