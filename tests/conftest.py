"""What all tests share: the flag that writes the goldens anew, and which tests are of an edge."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A machine that does something else as well is slow now and then, and no test fails for that.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

EDGES = frozenset(
    f"test_{name}"
    for name in (
        *("bounded", "drivers", "locks", "power", "regressions", "repair", "transaction"),
        *("bake", "bundle", "burn", "fetch", "first_boot_report", "image_command", "keys", "local"),
        *("make_bundle", "many", "observe", "openpgp", "provision", "remote", "ssh"),
        *("hostile", "hostile_host", "packaging", "permissions"),
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


@pytest.fixture(scope="session", autouse=True)
def lock_of_no_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tests' own lock in the place of this host's, which is one for all that run on it."""
    folder = tmp_path_factory.mktemp("lock")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFIO_KIT_LOCK_DIR", str(folder))
        yield folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in EDGES:
            item.add_marker(pytest.mark.edge)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens",
        action="store_true",
        help="write tests/golden/ anew from what is rendered now, in the place of comparing",
    )
