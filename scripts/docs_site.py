"""MkDocs' hook: pages of the top level in the site, and links that leave docs/ turned to where it
has what they lead to: a page, or the file itself, which is copied."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

CHECKOUT = Path(__file__).parents[1]
TOP = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
_LINK = re.compile(r"(\]\(|src=\")([^)\s\"#]+)")
_copied: dict[str, File] = {}


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the pages of the top level, and the files that pages link to outside of docs/."""
    for source, page in TOP.items():
        text = (CHECKOUT / source).read_text("utf-8")
        files.append(File.generated(config, page, content=_turned(text, source, page)))
    for file in list(files.documentation_pages()):
        for path in _left(file, Path(config["docs_dir"])):
            if path not in _copied:
                _copied[path] = File.generated(
                    config, f"repository/{path}", abs_src_path=str(CHECKOUT / path)
                )
                files.append(_copied[path])
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    source = page.file.src_uri
    return markdown if source in TOP.values() else _turned(markdown, f"docs/{source}", source)


def _left(file: File, docs: Path) -> list[str]:
    """Files of the repository, no pages, that a page links to."""
    source = next((top for top, page in TOP.items() if page == file.src_uri), None)
    path = docs / file.src_uri if source is None else CHECKOUT / source
    found = []
    for match in _LINK.finditer(path.read_text("utf-8")):
        target = _from_checkout(match[2], path)
        inside = target is None or target in TOP or target.startswith("docs/")
        if target and not inside and (CHECKOUT / target).is_file():
            found.append(target)
    return found


def _from_checkout(link: str, path: Path) -> str | None:
    if ":" in link or link.startswith("/"):
        return None
    target = (path.parent / link).resolve()
    return target.relative_to(CHECKOUT).as_posix() if target.is_relative_to(CHECKOUT) else None


def _turned(text: str, source: str, page: str) -> str:
    up = "../" * page.count("/")

    def turn(match: re.Match[str]) -> str:
        target = _from_checkout(match[2], CHECKOUT / source)
        if target is None:
            return match[0]
        if target in TOP:
            return f"{match[1]}{up}{TOP[target]}"
        if target.startswith("docs/"):
            return f"{match[1]}{up}{target.removeprefix('docs/')}"
        return f"{match[1]}{up}repository/{target}"

    return _LINK.sub(turn, text)
