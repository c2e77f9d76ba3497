"""A malformed attribute anywhere never gives a traceback: it is named, or it makes no difference.

Every file that a scan of a whole machine reads is spoilt in every way, one at a time.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hosts.load import FOLDER, load
from tests.machines import write_machine
from vfio_kit.analysis.isolation import host_findings, judge
from vfio_kit.cli.scan_json import scan_document
from vfio_kit.cli.scan_report import print_report
from vfio_kit.cli.scan_tree import draw_tree
from vfio_kit.host.read import read_tree
from vfio_kit.host.tree import LIMIT, Tree
from vfio_kit.model import Host

MACHINES = (
    "sriov-virtual-functions",
    pytest.param("raid-leg-in-group", marks=pytest.mark.unit_long),
    pytest.param("tesla-m60", marks=pytest.mark.unit_long),
)
"""One on every change; three where everything is run."""


class WatchedTree(Tree):
    """Remembers what was asked of it, and may lose a file at the moment it is asked for."""

    def __init__(self, root: Path, vanishing: str = "") -> None:
        super().__init__(root)
        self.files: dict[str, int] = {}
        self.folders: set[str] = set()
        self.links: set[str] = set()
        self._vanishing = vanishing

    def data(self, name: str, limit: int = LIMIT, *, private: bool = False) -> bytes | None:
        if name == self._vanishing:
            self.path(name).unlink()
        found = super().data(name, limit, private=private)
        if found is not None:
            self.files[name] = limit
        return found

    def names(self, name: str, *, private: bool = False) -> list[str]:
        found = super().names(name, private=private)
        if found:
            self.folders.add(name)
        return found

    def target(self, name: str, *, private: bool = False) -> str | None:
        found = super().target(name, private=private)
        if found is not None:
            self.links.add(name)
        return found


def judged(tree: Tree) -> Host:
    """The host, after everything was made of it that `scan` makes."""
    host = read_tree(tree)
    reports, general = judge(host), host_findings(host)
    scan_document(host, reports, general)
    list(draw_tree(host, reports))
    print_report(host, reports, general)
    return host


@pytest.fixture(scope="module", params=MACHINES)
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    root = tmp_path_factory.mktemp(request.param)
    yield write_machine(root, load(FOLDER / f"{request.param}.toml").machine)
    shutil.rmtree(root)


def _write(data: bytes) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(data))


def void(_: object) -> None:
    """Nothing, where a value is in the way."""


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


SPOILT: dict[str, Callable[[Path], None]] = {
    "empty": _write(b""),
    "binary": _write(b"\xff\xfe\x00\x80"),
    "no number": _write(b"45a\n"),
    "a megabyte": _write(b"x" * 2**20),
    "unreadable": _loop,
    "a folder": _folder,
    "missing": lambda path: path.unlink(),
}
NOTED = {"a megabyte", "unreadable", "a folder"}
"""What cannot be anything but a problem, of whatever file."""


@pytest.mark.parametrize("how", SPOILT)
def test_every_file_may_be_spoilt(machine: Path, how: str) -> None:
    whole = WatchedTree(machine)
    judged(whole)
    assert len(whole.files) > 50
    silent = []
    for name, limit in whole.files.items():
        path = machine / name
        before = path.resolve().read_bytes()
        place = path.resolve()
        SPOILT[how](place)
        host = judged(Tree(machine))
        named = any(problem.path == f"/{name}" for problem in host.problems)
        if how in NOTED and limit <= 2**20 and not named:
            silent.append(name)
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(
            missing_ok=True
        )
        place.write_bytes(before)
    assert silent == []


def test_every_file_may_vanish_while_it_is_read(machine: Path) -> None:
    whole = WatchedTree(machine)
    judged(whole)
    for name in whole.files:
        place = (machine / name).resolve()
        before = place.read_bytes()
        judged(WatchedTree(machine, vanishing=name))
        place.write_bytes(before)


def test_every_folder_may_be_a_file(machine: Path) -> None:
    whole = WatchedTree(machine)
    judged(whole)
    for name in sorted(whole.folders, key=len, reverse=True):
        place = (machine / name).resolve()
        aside = place.with_name("aside")
        place.rename(aside)
        place.write_bytes(b"\xff")
        judged(Tree(machine))
        place.unlink()
        aside.rename(place)


@pytest.mark.parametrize("target", ["nowhere/at/all", "45a", "..", "\n", "0000:00:00.0", "a" * 255])
def test_every_link_may_lead_elsewhere(machine: Path, target: str) -> None:
    whole = WatchedTree(machine)
    judged(whole)
    for name in whole.links:
        place = machine / name
        before = place.readlink()
        place.unlink()
        place.symlink_to(target)
        judged(Tree(machine))
        place.unlink()
        place.symlink_to(before)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vendor", b"0x10dg"),
        ("numa_node", b"45a"),
        ("boot_vga", b"2"),
        ("d3cold_allowed", b"yes"),
        ("resource", b"what\n"),
        ("resource", b"0x0 0x1\n"),
        ("subsystem_device", b""),
        ("power_state", b"45a"),
        ("removable", b""),
        ("reset_method", b"45a"),
        ("config", b"45a"),
    ],
)
def test_a_wrong_value_is_named_with_its_file(machine: Path, name: str, content: bytes) -> None:
    host = judged(Tree(machine))
    gpu = next(iter(host.gpus()))
    place = (machine / f"sys/bus/pci/devices/{gpu.address}/{name}").resolve()
    if not place.exists():
        pytest.skip(f"this machine's GPU has no {name}")
    before = place.read_bytes()
    place.write_bytes(content)
    problems = judged(Tree(machine)).problems
    place.write_bytes(before)
    assert [p for p in problems if p.path == f"/sys/bus/pci/devices/{gpu.address}/{name}"]
