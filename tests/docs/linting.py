"""LINTERS: who takes what a page shows, kind by kind. Each raises AssertionError with its words."""

import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

import jsonschema
import yaml

from tests.docs.pages import CHECKOUT
from vfio_kit.spec import load_spec

_TIMEOUT = 120.0


def _ask(folder: Path, *words: str) -> None:
    """Runs a program, which has to end with 0; those of our own venv come first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {"PATH": path, "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"


def _file(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return name


def _yaml(text: str, folder: Path) -> None:
    del folder
    list(yaml.safe_load_all(text))


def _toml(text: str, folder: Path) -> None:
    del folder
    tomllib.loads(text)


def _json(text: str, folder: Path) -> None:
    del folder
    json.loads(text)


def _json_schema(text: str, folder: Path, name: str) -> None:
    """name: of a schema that is shipped, as in scan-1."""
    del folder
    schema = json.loads((CHECKOUT / f"vfio_kit/schemas/{name}.schema.json").read_text("utf-8"))
    jsonschema.validate(json.loads(text), schema, jsonschema.Draft202012Validator)


def _spec(text: str, folder: Path) -> None:
    load_spec(folder / _file(folder, "spec.toml", text), {})


def _shell(text: str, folder: Path) -> None:
    _ask(folder, "shellcheck", "--shell=bash", _file(folder, "block.sh", text))


def _systemd(text: str, folder: Path, name: str = "") -> None:
    """name: of the unit; a block may hold a .service and a .timer, each below `# NAME`."""
    kind = "timer" if "[Timer]" in text else "service"
    units = {"example.service": "[Service]\nExecStart=/bin/true\n"}  # for a timer by itself
    units |= _units(text, name or f"example.{kind}")
    for unit, content in units.items():
        # That a program is where its package puts it is not for the page to prove.
        _file(folder, unit, re.sub(r"(?m)^(Exec\w+=[-+!@:]*)/\S+", r"\1/bin/true", content))
    _ask(folder, "systemd-analyze", "verify", *(f"./{unit}" for unit in units))


def _units(text: str, name: str) -> dict[str, str]:
    units: dict[str, list[str]] = {}
    current = name
    for line in text.splitlines(keepends=True):
        head = line.removeprefix("# ").strip()
        if line.startswith("# ") and head.endswith((".service", ".timer", ".mount", ".target")):
            current = Path(head).name
        units.setdefault(current, []).append(line)
    return {unit: "".join(lines) for unit, lines in units.items() if "".join(lines).strip()}


def _crontab(text: str, folder: Path, where: str = "user") -> None:
    """where: `system` for lines of /etc/cron.d, whose sixth word is the user."""
    if where == "system":
        text = re.sub(r"(?m)^((?:\S+[ \t]+){5})[a-z_][a-z0-9_-]*[ \t]+(?=\S)", r"\1", text)
    _ask(folder, "crontab", "-n", _file(folder, "crontab", text))


def _ansible(text: str, folder: Path) -> None:
    """A playbook, or a list of tasks."""
    if not all("hosts" in play for play in yaml.safe_load(text)):
        text = "- hosts: all\n  tasks:\n" + textwrap.indent(text, "    ")
    _ask(folder, "ansible-playbook", "--syntax-check", "-i", "host,", _file(folder, "p.yml", text))


def _github(text: str, folder: Path) -> None:
    name = _file(folder, "workflow.yml", text)
    _ask(folder, "check-jsonschema", "--builtin-schema", "vendor.github-workflows", name)


LINTERS: dict[str, Callable[..., None]] = {
    "yaml": _yaml,
    "toml": _toml,
    "json": _json,
    "json-schema": _json_schema,
    "spec": _spec,
    "shell": _shell,
    "systemd": _systemd,
    "crontab": _crontab,
    "ansible": _ansible,
    "github": _github,
}
