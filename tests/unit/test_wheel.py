"""The wheel works where no checkout is: installed into an empty venv, and used from there."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
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
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and with the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "-o", folder, CHECKOUT, cwd=folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        f"vfio_kit-{__version__}-py3-none-any.whl",
        f"vfio_kit-{__version__}.tar.gz",
    ]
    return folder


@pytest.fixture(scope="module")
def place(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a venv that holds the wheel. Its dependencies are those of the test's venv,
    of which no .pth file is read here: the checkout is nowhere."""
    folder = tmp_path_factory.mktemp("wheel")
    install(dist, folder, "--no-deps")
    (packages,) = folder.glob("venv/lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def install(dist: Path, folder: Path, *options: str) -> None:
    """Puts the wheel into a new venv."""
    (wheel,) = dist.glob("*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "-q", "--no-compile", *options, wheel, cwd=folder)


def test_pypi_takes_both(dist: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir(), cwd=dist)


def test_the_wheel_has_every_file_of_the_package(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if name.startswith("vfio_kit/")}
    ours = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "vfio_kit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours - shipped == set()
    assert {name.split("/")[1] for name in shipped - ours} == {"_assets"}


def test_the_sdist_has_what_tests_and_packagers_take(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for path in (
        "LICENSE",
        "docs/packaging.md",
        "packaging/lowest.txt",
        "tests/unit/test_wheel.py",
    ):
        assert path in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(".git/")]


@pytest.mark.unit_long
def test_the_wheel_asks_for_all_that_it_takes(dist: Path, tmp_path: Path) -> None:
    """Into a venv with nothing else, from the network; the virtual host does it from wheels."""
    install(dist, tmp_path)
    modules = [
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
        for path in (CHECKOUT / "vfio_kit").rglob("*.py")
        if path.stem not in ("__main__", "__init__", "libvirt_connection")
    ]
    code = f"import importlib; [importlib.import_module(name) for name in {modules}]"
    run(tmp_path / "venv/bin/python", "-c", code, cwd=tmp_path)


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
