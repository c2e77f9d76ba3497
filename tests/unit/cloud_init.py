"""cloud-init's own schema of user-data, as it is in the package of the system that runs the tests.

On Debian 12 that is the version of the guest debian-12. The package is fetched, not installed: on
a machine it would take part in the next boot.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

_SCHEMA = "usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json"


def schema_errors(user_data: str) -> list[str]:
    """What the schema has against this user-data, each with its place; unknown keys as well."""
    document = yaml.load(user_data, Loader=yaml.CSafeLoader)  # libyaml's is ten times as fast
    found = jsonschema.Draft4Validator(_schema()).iter_errors(document)
    errors = [f"{'/'.join(map(str, error.path))}: {error.message}" for error in found]
    known = {key for part in _schema()["$defs"].values() for key in part.get("properties", ())}
    return errors + [f"{key}: no module has it" for key in document if key not in known]


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((_package() / _SCHEMA).read_text("utf-8"))
    return schema


def _package() -> Path:
    """The package's files, fetched with apt where they are not there yet.

    Several processes may be at it at once: whoever is ready first has made it for all.
    """
    root = Path(os.environ.get("VFIO_KIT_CACHE") or Path.home() / ".cache" / "vfio-kit")
    folder = root / "cloud-init"
    if not (folder / _SCHEMA).is_file():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as name:
            own = Path(name)
            _download(own)
            (package,) = own.glob("cloud-init_*.deb")
            _run("dpkg-deb", "-x", package.name, "files", folder=own)
            with contextlib.suppress(OSError):  # it is there meanwhile
                (own / "files").rename(folder)
    return folder


def _download(folder: Path) -> None:
    """Once more where apt's lists are missing, or are older than what the mirror has."""
    words = ("apt-get", "-qq", "download", "cloud-init")
    done = subprocess.run(words, check=False, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        _run("apt-get", "-qq", "update", folder=folder)
        _run(*words, folder=folder)


def _run(*words: str, folder: Path) -> None:
    done = subprocess.run(words, check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"the package cloud-init cannot be had: {done.stderr}"
