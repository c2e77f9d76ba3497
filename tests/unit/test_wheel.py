"""The wheel works where no checkout is: installed into an empty venv, and used from there."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.machines import m4000_isolated, write_machine
from vfio_kit import __version__
from vfio_kit.knowledge.cloud_images import CLOUD_IMAGES
from vfio_kit.revision import commit_of

CHECKOUT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a venv that holds the wheel and what it asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "-o", folder / "dist", CHECKOUT, cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    assert wheel.name == f"vfio_kit-{__version__}-py3-none-any.whl"
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    pip = ("-m", "pip", "--python", python, "install", "-q", "--no-compile")
    run(sys.executable, *pip, "--disable-pip-version-check", wheel, cwd=folder)
    return folder


def test_every_output_renders_from_the_wheel(place: Path) -> None:
    tree = write_machine(place / "tree", m4000_isolated())
    command = place / "venv/bin/vfio-kit"
    run(
        *(command, "render", "--root", tree, "--gpu", "01:00.0", "-o", "out"),
        *("--output", "libvirt", "--output", "qemu", "--output", "cloud-init"),
        cwd=place,
    )
    assert {path.name for path in (place / "out").iterdir()} == {
        "domain.xml",
        "run.sh",
        "user-data",
        "meta-data",
        "network-config",
        "id_ed25519",
        "known_hosts",
    }
    assert "isolated" in run(command, "scan", "--root", tree, cwd=place)


def test_the_wheel_carries_its_own_templates(place: Path) -> None:
    code = (
        "import vfio_kit.assets as a; print(a.__file__);"
        "print(a.asset_dir('templates')); print(a.asset_dir('cloud-init'))"
    )
    module, *folders = run(place / "venv/bin/python", "-c", code, cwd=place).splitlines()
    package = Path(module).parent
    assert place in package.parents
    assert [Path(folder) for folder in folders] == [
        package / "_assets/templates",
        package / "_assets/cloud-init",
    ]
    for name in ("templates", "cloud-init"):
        sources = {
            path.relative_to(CHECKOUT / name): path.read_bytes()
            for path in (CHECKOUT / name).rglob("*.j2")
        }
        shipped = package / "_assets" / name
        assert {
            path.relative_to(shipped): path.read_bytes() for path in shipped.rglob("*.j2")
        } == sources
    for path in ("py.typed", "_assets/templates/guest/burn.py", "schemas/verify-2.schema.json"):
        assert (package / path).is_file()
    for row in CLOUD_IMAGES.values():
        if row.key is not None:
            assert (package / "keys" / row.key.file.name).read_bytes() == row.key.file.read_bytes()


def test_the_wheel_brings_manual_pages_and_completions(place: Path) -> None:
    share = place / "venv/share"
    for source, installed in (
        ("man", share / "man/man1"),
        ("completions/vfio-kit.bash", share / "bash-completion/completions/vfio-kit"),
        ("completions/_vfio-kit", share / "zsh/site-functions/_vfio-kit"),
        ("completions/vfio-kit.fish", share / "fish/vendor_completions.d/vfio-kit.fish"),
    ):
        assert contents(installed) == contents(CHECKOUT / "packaging" / source)


def contents(path: Path) -> dict[str, bytes]:
    files = path.glob("vfio-kit*") if path.is_dir() else [path]
    return {file.name if path.is_dir() else "": file.read_bytes() for file in files}


def test_the_wheel_knows_the_commit_that_it_was_built_from(place: Path) -> None:
    commit = commit_of(CHECKOUT)
    built = f"vfio-kit {__version__}" + (f" (commit {commit[:12]})" if commit else "")
    assert run(place / "venv/bin/vfio-kit", "--version", cwd=place).strip() == built
