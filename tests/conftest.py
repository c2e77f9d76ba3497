"""What all tests share: where their files are, how many examples, which of them are of an edge."""

import gc
import inspect
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import settings

from tests.examples import few

# A machine that does something else as well is slow now and then, and no test fails for that.
settings.register_profile("unhurried", deadline=None, max_examples=few(40))
settings.load_profile("unhurried")

MEMORY = Path("/dev/shm")

EDGES = frozenset(
    f"test_{name}"
    for name in (
        *("bounded", "drivers", "locks", "power", "regressions", "repair", "transaction"),
        *("bake", "bundle", "burn", "fetch", "first_boot_report", "image_command", "keys", "local"),
        *("make_bundle", "many", "observe", "openpgp", "provision", "remote", "ssh"),
        *("hostile", "hostile_host", "permissions"),
        *(
            "shell_completion",
            "log_file",
            "stdout",
            "ssh_config",
            "ssh_lines",
            "ssh_routes",
            "verify_command",
            "wheel",
        ),
    )
)
"""Modules whose tests need servers on loopback, processes or tools; the core does not."""
THROUGH = frozenset(
    f"test_{name}"
    for name in (
        *("advise", "cli", "examples", "explain", "hosts", "malformed", "scan", "snapshot"),
        *("shell_help", "shell_man", "shell_mistakes", "shell_values", "stdout", "log_file"),
    )
)
"""Modules whose tests run all of it, on whole machines or by the command line."""


@pytest.fixture(scope="session", autouse=True)
def lock_of_no_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tests' own lock in the place of this host's, which is one for all that run on it."""
    folder = tmp_path_factory.mktemp("lock")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFIO_KIT_LOCK_DIR", str(folder))
        yield folder


def pytest_configure() -> None:
    """Puts `tmp_path` into memory where there is enough of it: trees have thousands of files."""
    # click before 8.2 mixes stdout and stderr unless it is told not to.
    if "mix_stderr" in inspect.signature(CliRunner).parameters:
        vars(CliRunner)["__init__"].__defaults__ = ("utf-8", None, False, False)
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2 << 30:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of edges, and puts those last in which no coverage is counted."""
    for item in items:
        if item.path.stem in EDGES:
            item.add_marker(pytest.mark.edge)
    items.sort(key=lambda item: not counts(item))


def counts(item: pytest.Item) -> bool:
    """Whether what a test covers is counted: of the core, with given data, called directly.

    Not of edges; nor of examples that hypothesis draws, which are others in each run; nor of what
    goes through all of it once more with another machine, another page or another command.
    """
    drawn = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    through = item.path.stem in THROUGH or item.path.parent.name != "unit"
    return not (drawn or through or item.get_closest_marker("edge"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Pauses coverage before the first test that does not count. (`no_cover` of pytest-cov pauses
    and resumes for each of them, which takes longer than most of them.)"""
    plugin = item.config.pluginmanager.getplugin("_cov")
    control = getattr(plugin, "cov_controller", None)
    if control is not None and control.started != counts(item):
        (control.resume if counts(item) else control.pause)()


def pytest_collection_finish() -> None:
    """What was collected stays until the end: no garbage collection needs to look at it."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens",
        action="store_true",
        help="write tests/golden/ anew from what is rendered now, in the place of comparing",
    )
