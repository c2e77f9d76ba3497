"""The fixtures `host` and `gpuhost`, and what a session of lab tests needs around it.

A test names its topology: `@pytest.mark.topology(NAME)`.  Tests are sorted so that each topology
is booted once.  After a lab fault the host is booted afresh and the tests of the class (of the
module, outside a class) run again from the first one, three times at most; the summary says so.
"""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from . import images, machine, product
from .faults import LabFault
from .labhost import LabHost as LabHost  # tests import it from here
from .machine import Say
from .paths import cache_dir
from .session import Attempt, Emulator, Lab, Repeater
from .topologies import TOPOLOGIES

_LAB = pytest.StashKey[Lab]()
_REPEATER = pytest.StashKey[Repeater[pytest.Item]]()
_NEXT = pytest.StashKey[pytest.Item | None]()
_FAULT = pytest.StashKey[str]()
_EXIT_USAGE = 4


@pytest.fixture
def host(request: pytest.FixtureRequest) -> LabHost:
    """The running, sound host of the test's topology."""
    name = _topology(request.node)
    if name is None:
        pytest.fail("a test with the fixture `host` needs @pytest.mark.topology(NAME)")
    lab = request.config.stash[_LAB]
    try:
        lab.bring_up(name)
    except machine.LabError as error:
        pytest.exit(f"lab: {error}", returncode=_EXIT_USAGE)
    return LabHost(TOPOLOGIES[name], lab.say)


@pytest.fixture
def gpuhost(host: LabHost) -> LabHost:
    """The host with vfio-kit installed from wheels alone; installed once a boot."""
    product.installed_on(host)
    return host


@pytest.fixture
def notes(request: pytest.FixtureRequest) -> dict[str, str]:
    """Lines for the summary, by their names."""
    return request.config.stash[_LAB].notes


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is locked, built or booted before a test asks for the host."""
    use(config, machine, images.build, cache_dir() / "session.lock")


def use(
    config: pytest.Config, emulator: Emulator, build: Callable[[Say], None], lock_file: Path
) -> None:
    """Let lab tests run on this emulator (a unit test brings its own)."""

    def say(line: str) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        capture = config.pluginmanager.get_plugin("capturemanager")
        if reporter and capture:
            with capture.global_and_fixture_disabled():
                reporter.write_line(f"{time.strftime('%T')} lab: {line}")

    lab = Lab(emulator, build, say, lock_file)

    def recover(item: pytest.Item, reason: str) -> None:
        lab.faults.append(f"{item.nodeid}: {reason}")
        say(f"lab fault in {item.nodeid}: {reason}")
        # Fixtures of the class and the module may speak of the host that is gone.
        item.session._setupstate.teardown_exact(None)
        lab.stop()

    config.stash[_LAB] = lab
    config.stash[_REPEATER] = Repeater(_run, recover)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing running, whatever ended the session."""
    if lab := config.stash.get(_LAB, None):
        lab.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Boot each topology once: those without come first, files stay in their order."""
    ranks = {name: rank for rank, name in enumerate(TOPOLOGIES)}
    items.sort(key=lambda item: ranks.get(_topology(item) or "", -1))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a lab test so that a lab fault can be told from its failure."""
    if _topology(item) is None:
        return None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or the host would be left behind
    item.stash[_NEXT] = nextitem
    before = item.session.items[: item.session.items.index(item)]
    earlier = [other for other in before if _group(other) == _group(item)]
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    item.config.stash[_REPEATER].perform(item, earlier)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note where a failure is the lab's fault, in whatever way the test noticed it."""
    if call.excinfo and _topology(item) and _FAULT not in item.stash:
        is_fault = call.excinfo.errisinstance(LabFault)
        reason = str(call.excinfo.value) if is_fault else item.config.stash[_LAB].fault()
        if reason:
            item.stash[_FAULT] = reason
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where the time went, and what was done again."""
    lab = terminalreporter.config.stash[_LAB]
    if lab.times:
        terminalreporter.section("virtual host")
    for what, seconds in lab.times:
        terminalreporter.write_line(f"{seconds:8.1f} s  {what}")
    for name, note in lab.notes.items():
        terminalreporter.write_line(f"{name}: {note}")
    for fault in lab.faults:
        terminalreporter.write_line(f"lab fault, repeated: {fault}")


def _topology(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("topology")
    return str(marker.args[0]) if marker else None


def _group(item: pytest.Item) -> tuple[pytest.Collector | None, str | None]:
    """Return what a test has in common with those that it may build on."""
    return item.getparent(pytest.Class) or item.getparent(pytest.Module), _topology(item)


def _run(item: pytest.Item) -> Attempt:
    """Run one test without reporting it, so that the report can be thrown away."""
    if _FAULT in item.stash:
        del item.stash[_FAULT]
    reports = runtestprotocol(item, nextitem=item.stash[_NEXT], log=False)

    def show() -> None:
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)

    return Attempt(any(report.failed for report in reports), item.stash.get(_FAULT, None), show)
