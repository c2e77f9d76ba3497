"""vfio-kit itself, as a folder of wheels that a host without network installs from.

The wheels are for the lab's host (Debian 13, Python 3.13), whatever Python runs here; libvirt comes
from the distribution's python3-libvirt.
"""

import hashlib
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

from .labhost import LabHost

CHECKOUT = Path(__file__).resolve().parents[2]
TARGET_PYTHON = "3.13"
_PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64")

INSTALL = """set -e
rm -rf /opt/vfio-kit
python3 -m venv --system-site-packages --without-pip /opt/vfio-kit
python3 -m pip --python /opt/vfio-kit/bin/python install -q --no-index --no-compile \\
  --disable-pip-version-check --root-user-action ignore \\
  --find-links /root/wheels 'vfio-kit[libvirt]'
ln -sf /opt/vfio-kit/bin/vfio-kit /usr/local/bin/vfio-kit
"""
"""Run on the host, with the wheels in /root/wheels. The venv sees the distribution's libvirt."""


def build_wheels(say: Callable[[str], None]) -> Path:
    """Downloads what vfio-kit depends on, unless it is cached, and builds vfio-kit's own wheel."""
    begin = time.monotonic()
    dependencies = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"][
        "dependencies"
    ]
    tag = hashlib.sha256("\n".join([TARGET_PYTHON, *dependencies]).encode()).hexdigest()[:12]
    root = os.environ.get("VFIO_KIT_CACHE") or Path.home() / ".cache" / "vfio-kit"
    folder = Path(root).resolve() / f"wheels-{tag}"
    if not (folder / ".complete").exists():
        platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
        _pip(
            *("download", "--only-binary=:all:", "--implementation", "cp", "--dest", str(folder)),
            *(
                "--python-version",
                TARGET_PYTHON,
                "--abi",
                "cp313",
                "--abi",
                "abi3",
                "--abi",
                "none",
            ),
            *platforms,
            *dependencies,
        )
        (folder / ".complete").touch()
    for old in folder.glob("vfio_kit-*.whl"):
        old.unlink()
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(CHECKOUT))
    say(f"wheels: {folder}, {time.monotonic() - begin:.1f} s")
    return folder


def installed_on(host: LabHost) -> None:
    """Sees to it that vfio-kit is installed on the host; does nothing where it is."""
    if host.run("test -x /opt/vfio-kit/bin/vfio-kit", check=False).returncode == 0:
        return
    host.run("rm -rf /root/wheels")
    host.put(build_wheels(print), "/root/wheels")
    host.run(INSTALL, timeout=600)


def compiled_on(host: LabHost) -> None:
    """Compiles the installed modules, as pip does where it is not told otherwise (INSTALL)."""
    host.run("/opt/vfio-kit/bin/python -m compileall -q /opt/vfio-kit/lib", timeout=600)


def _pip(*words: str) -> None:
    argv = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", *words]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
