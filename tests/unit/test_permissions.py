"""docs/permissions.md names every command; the files of packaging/ give what it says, no more."""

import json
import re
import shutil
import stat
from pathlib import Path

import pytest

from tests.unit.tools import run
from vfio_kit.cli import _COMMANDS

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs/permissions.md").read_text("utf-8")
SUDOERS = CHECKOUT / "packaging/sudoers/vfio-kit"
RULES = CHECKOUT / "packaging/polkit/50-vfio-kit.rules"
SECURITY = (CHECKOUT / "SECURITY.md").read_text("utf-8")


def rows() -> dict[str, tuple[str, str]]:
    """Command -> whether it needs root, and why, of the table."""
    lines = re.findall(r"(?m)^\| `([a-z]+)` \| (yes|no) \| (.+) \|$", PAGE)
    assert len(lines) == len({name for name, _, _ in lines})
    return {name: (root, why) for name, root, why in lines}


def needs(program: str, package: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not here: apt-get install {package}")


def test_every_command_has_its_row_and_no_other() -> None:
    assert list(rows()) == list(_COMMANDS)


def test_what_looks_needs_no_root() -> None:
    found = rows()
    for name in ("scan", "explain", "advise", "plan", "render", "verify", "snapshot"):
        assert found[name][0] == "no"
    for name in ("up", "down", "bake", "start", "stop", "repair"):
        assert found[name][0] == "yes"


def test_sudo_takes_the_file() -> None:
    needs("visudo", "sudo")
    done = run("visudo", "-c", "-f", SUDOERS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_password_there_are_looks_alone_and_no_words_of_ones_own() -> None:
    needs("cvtsudoers", "sudo")
    done = run("cvtsudoers", "-f", "json", SUDOERS)
    policy = json.loads(done.stdout)
    free = [
        alias["cmndalias"]
        for user in policy["User_Specs"]
        for spec in user["Cmnd_Specs"]
        if {"authenticate": False} in spec.get("Options", ())
        for alias in spec["Commands"]
    ]
    assert free == ["VFIO_KIT_LOOKS"]
    looks = [entry["command"] for entry in policy["Command_Aliases"]["VFIO_KIT_LOOKS"]]
    for words in (look.split() for look in looks):
        assert words[0] == "/usr/local/bin/vfio-kit" and words[1] in _COMMANDS
        assert set(words[2:]) <= {"--json", "--check"}
        assert not re.search(r"[*?\[^]", " ".join(words))
    users = {name for user in policy["User_Specs"] for name in map(str, user["User_List"])}
    assert users == {"{'usergroup': 'vfio-kit'}"}


_ASK = """
const rules = [];
const Result = {NOT_HANDLED: "not handled", YES: "yes"};
globalThis.polkit = {addRule: rule => rules.push(rule), Result};
eval(require("fs").readFileSync(process.argv[1], "utf8"));
const ask = (id, groups) => rules.map(rule =>
    rule({id, lookup: () => undefined}, {isInGroup: name => groups.includes(name)}))[0];
const asked = JSON.parse(process.argv[2]);
console.log(JSON.stringify(asked.map(([id, groups]) => ask(id, groups))));
"""


def test_polkit_lets_the_group_manage_domains_and_nothing_else() -> None:
    needs("node", "nodejs")
    asked = [
        ("org.libvirt.unix.manage", ["vfio-kit"]),
        ("org.libvirt.unix.manage", ["users"]),
        ("org.freedesktop.policykit.exec", ["vfio-kit"]),
        ("org.freedesktop.systemd1.manage-units", ["vfio-kit"]),
    ]
    done = run("node", "-e", _ASK, RULES, json.dumps(asked))
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers == ["yes", "not handled", "not handled", "not handled"]


@pytest.mark.parametrize("path", [SUDOERS, RULES], ids=lambda path: path.name)
def test_nobody_else_writes_to_what_is_installed(path: Path) -> None:
    assert not path.stat().st_mode & (stat.S_IWOTH | stat.S_IXUSR)


def test_what_security_md_calls_a_proof_is_there() -> None:
    """Every test that it names: a file, or file::name."""
    named = re.findall(r"tests/[\w/]+\.py(?:::\w+)?", SECURITY)
    assert len(named) > 15
    for name in named:
        file, _, test = name.partition("::")
        text = (CHECKOUT / file).read_text("utf-8")
        assert f"def {test}(" in text or f"class {test}" in text or not test, name
