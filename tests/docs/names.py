"""Names that the manual uses, and whether there is what they name: commands, options, findings,
exit statuses, files and tests of the repository, environment variables."""

import re
from collections.abc import Iterator, Mapping
from functools import cache

import click

from tests.docs.pages import CHECKOUT, Block, Page, Place
from tests.docs.running import commands_of, words_of
from tests.docs.written.exits import MEANINGS
from vfio_kit.cli import _COMMANDS, _HIDDEN, _cli
from vfio_kit.knowledge.findings import FINDING_KINDS

FOREIGN: Mapping[str, str] = {
    "--update-goldens": "pytest, by tests/conftest.py",
    "--bake": "vfio-kit-provision, in a guest",
    "--status": "make-bundle.sh",
    "--preserve-env": "sudo",
    "--collector.textfile.directory": "node_exporter",
    "--live": "virsh emulatorpin",
    "--logs": "cloud-init clean",
    "--long": "cloud-init status",
    "--system-site-packages": "python -m venv",
    "--hostdev": "virt-install",
    "--cloud-init": "virt-install",
}
"""Options of other programs, which the manual names in code: option -> whose it is."""

ENVIRONMENT = frozenset(
    {
        "VFIO_KIT_ROOT",
        "VFIO_KIT_STATE_DIR",
        "VFIO_KIT_IMAGE_DIR",
        "VFIO_KIT_LOCK_DIR",
        "VFIO_KIT_CACHE",
    }
)
BETWEEN_OURSELVES = frozenset({"VFIO_KIT_UNIT"})
"""Variables that vfio-kit sets for itself: the unit for what it starts."""

EXITS = frozenset(MEANINGS)
CODES = frozenset(kind.code for kind in FINDING_KINDS)

_FOLDERS = (
    "vfio_kit",
    "tests",
    "docs",
    "scripts",
    "templates",
    "cloud-init",
    "packaging",
    "benchmarks",
)
_FILE = re.compile(
    rf"(?<![\w/.:-])((?:{'|'.join(_FOLDERS)})/[\w.@*-]+(?:/[\w.@*-]+)*/?)(?:::(\w+))?"
)
_WORD = re.compile(r"--?[A-Za-z][\w.-]*")
_EXIT = re.compile(r"(?i)\bexits? (?:status|code) (\d+)|\bexits=(\d+)")


@cache
def _command(path: tuple[str, ...]) -> click.Command | None:
    """The command at `path`, as in ("image", "fetch"); None where there is none."""
    command: click.Command = _cli
    for name in path:
        if not isinstance(command, click.Group):
            return None
        found = command.get_command(click.Context(command), name)
        if found is None:
            return None
        command = found
    return command


@cache
def options_of(path: tuple[str, ...]) -> frozenset[str]:
    """All that may stand behind a command: --gpu, -o, --no-pin, --help."""
    command = _command(path)
    assert command is not None
    given = {"-h", "--help"}
    for parameter in command.get_params(click.Context(command, info_name="vfio-kit")):
        if isinstance(parameter, click.Option):
            given |= {*parameter.opts, *parameter.secondary_opts}
    return frozenset(given)


@cache
def own_scripts_options() -> frozenset[str]:
    """Options of scripts/, of `python -m benchmarks`, `-m tests.docs` and the like."""
    sources = [*(CHECKOUT / "scripts").iterdir(), *(CHECKOUT / "benchmarks").glob("*.py")]
    sources += (CHECKOUT / "tests").rglob("__main__.py")
    texts = [path.read_text("utf-8") for path in sources if path.is_file()]
    return frozenset(re.findall(r"(?<![\w-])--[a-z][\w-]+", "\n".join(texts)))


@cache
def _all_options() -> frozenset[str]:
    paths: list[tuple[str, ...]] = [()]
    for name in (*_COMMANDS, *_HIDDEN):
        paths.append((name,))
        group = _command((name,))
        if isinstance(group, click.Group):
            paths += [(name, inner) for inner in group.list_commands(click.Context(group))]
    return frozenset().union(*map(options_of, paths))


def wrong_call(words: list[str]) -> str | None:
    """Why no vfio-kit takes these words (without its own name); None where it may.

    Capitals and … stand for what a reader puts there.
    """
    path: tuple[str, ...] = ()
    for word in words:
        if word.startswith("-") and word != "-":
            option = word.partition("=")[0]
            if option not in options_of(path) and not _clustered(option, path):
                return f"{' '.join(('vfio-kit', *path))} has no option {option}"
        elif isinstance(_command(path), click.Group):
            if word == "…" or word.isupper():
                return None
            for one in word.split("|"):
                if _command((*path, one)) is None:
                    return f"{' '.join(('vfio-kit', *path))} has no command {one}"
            path = (*path, word.split("|")[0])
    return None


def _clustered(option: str, path: tuple[str, ...]) -> bool:
    """-o. for -o ., and -- which ends the options."""
    return option == "--" or (option[1:2] != "-" and option[:2] in options_of(path))


def wrong_names(page: Page) -> Iterator[str]:
    """What a page names and there is not, each as PAGE:LINE: why."""
    for place in page.codes:
        yield from _told(place, _wrong_code(place.text))
    new = _added(page)
    for place in page.words:
        yield from _told(place, _wrong_words(place.text, new))
    for block in page.blocks:
        place = Place(page.path, block.line, block.text)
        yield from _told(place, _wrong_words(block.text, new))
        yield from _told(place, _wrong_lines(block))


def _added(page: Page) -> str:
    """What the page itself tells its reader to add: names of files, and what is in them."""
    blocks = [one for one in page.blocks if one.marker and one.marker.kind == "add"]
    return "\n".join(f"{one.marker.words[0]}\n{one.text}" for one in blocks if one.marker)


def _told(place: Place, wrong: Iterator[str]) -> Iterator[str]:
    yield from (f"{place.page}:{place.line}: {why}" for why in wrong)


def _wrong_code(text: str) -> Iterator[str]:
    """Of code within a sentence: `vfio-kit up --autostart`, `scan --tree`, `--accept-loss`."""
    words = re.sub(r"[\[\]]", " ", text.replace("\\|", "|")).split()
    words = words[1:] if words[:1] == ["sudo"] else words
    if words[:1] == ["vfio-kit"]:
        why = wrong_call(words[1:])
    elif words[:1] and words[0] in _COMMANDS:
        why = wrong_call(words)
    elif words[:1] and _WORD.fullmatch(words[0].partition("=")[0]) and words[0].startswith("--"):
        option = words[0].partition("=")[0]
        known = option in _all_options() | own_scripts_options() or option in FOREIGN
        why = None if known else f"no command has the option {option}"
    else:
        why = None
    if why:
        yield why


def _wrong_lines(block: Block) -> Iterator[str]:
    """Of the lines of a block, those that call vfio-kit, whatever their language."""
    for line in commands_of(block.commands):
        match = re.match(r"(?:cmd: |ExecStart=\S*?|[\w*/ ]*? )?(?:sudo )?vfio-kit (?=\S)(.*)", line)
        if match is None or line.startswith("vfio-kit:"):
            continue
        try:
            words = words_of(match[1])
        except ValueError:  # a quotation that begins or ends elsewhere
            continue
        end = next((n for n, word in enumerate(words) if set(word) <= set("|&;<>()")), len(words))
        if why := wrong_call(words[:end]):
            yield why


def _wrong_words(text: str, new: str = "") -> Iterator[str]:
    for code in re.findall(r"\bVK\d{3}\b", text):
        if code not in CODES and code not in new:
            yield f"no finding {code}"
    for match in _EXIT.finditer(text):
        if int(match[1] or match[2]) not in EXITS:
            yield f"no exit status {match[1] or match[2]}"
    for name in re.findall(r"\bVFIO_KIT_[A-Z_]+\b", text):
        if name not in ENVIRONMENT:
            yield f"no environment variable {name}"
    for path, test in _FILE.findall(text):
        if not _exists(path.rstrip(".")) and path not in new:
            yield f"no file {path}"
        elif test and not re.search(rf"(def|class) {test}\b", (CHECKOUT / path).read_text("utf-8")):
            yield f"no test {test} in {path}"


def _exists(path: str) -> bool:
    return any(CHECKOUT.glob(path)) if "*" in path else (CHECKOUT / path).exists()
