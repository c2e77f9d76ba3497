"""A copy of the sources, to which a page has added what it tells its reader to add."""

import shutil
from pathlib import Path

from tests.docs.pages import CHECKOUT, Block, Page

_COPIED = ("vfio_kit", "templates", "cloud-init")


def sources_with(page: Page, block: Block, folder: Path) -> Path:
    """The sources as they are at `block`: all `add` blocks above it on its page are in them."""
    for name in _COPIED:  # with times, so that what is compiled stays valid
        shutil.copytree(CHECKOUT / name, folder / name)
    for other in page.blocks:
        if other.line < block.line and other.marker and other.marker.kind == "add":
            add(other, folder)
    return folder


def add(block: Block, sources: Path) -> None:
    """Does what the marker says: below a line of a file, indented as its neighbours; at its end; or
    a new file."""
    assert block.marker is not None
    (path,) = block.marker.words
    file = sources / path
    assert file.resolve().is_relative_to(sources.resolve()), f"{block.id}: {path} leads elsewhere"
    above = block.marker.option("below")
    if above is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        before = f"{file.read_text('utf-8')}\n\n" if file.exists() else ""
        file.write_text(before + block.text, encoding="utf-8")
        return
    lines = file.read_text("utf-8").splitlines(keepends=True)
    places = [number for number, line in enumerate(lines) if line.rstrip("\n") == above]
    assert places, f"{block.id}: {path} has no line {above!r}"
    following = lines[places[0] + 1]
    margin = following[: len(following) - len(following.lstrip())]
    added = [f"{margin}{line}" for line in block.text.splitlines(keepends=True)]
    file.write_text("".join([*lines[: places[0] + 1], *added, *lines[places[0] + 1 :]]), "utf-8")
