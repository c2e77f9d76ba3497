"""Locks: one command at a time, and whoever waits is told by whom, as the kernel has it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from vfio_kit.apply.locks import Holder, holder_of, host_lock, lock_folder
from vfio_kit.errors import HostError

_HOLD = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@dataclass
class Other:
    """Another process that holds a lock until `let_go`."""

    process: "subprocess.Popen[bytes]"

    @property
    def pid(self) -> int:
        return self.process.pid

    def let_go(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextmanager
def another_holds(folder: Path, *words: str) -> Iterator[Other]:
    """Another process holds the lock on a folder; its command line goes on with these words."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, folder, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline() == b"held\n"
        try:
            yield Other(process)
        finally:
            process.kill()


def test_who_holds_a_lock_is_said_with_its_command_line(tmp_path: Path) -> None:
    with another_holds(tmp_path, "/opt/x/bin/vfio-kit", "up", "m4000", "--spec", "a b") as other:
        holder = holder_of(tmp_path)
    assert holder == Holder(other.pid, "vfio-kit up m4000 --spec 'a b'")
    assert str(holder) == f"process {other.pid} (vfio-kit up m4000 --spec 'a b')"


def test_of_a_long_command_line_the_beginning_is_shown(tmp_path: Path) -> None:
    with another_holds(tmp_path, "vfio-kit", "up", "x" * 300):
        holder = holder_of(tmp_path)
    assert holder is not None and len(holder.command) == 160
    assert holder.command.startswith("vfio-kit up xxx") and holder.command.endswith("x …")


def test_a_folder_that_is_merely_open_is_held_by_nobody(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        assert holder_of(tmp_path) is None
    finally:
        os.close(handle)
    assert holder_of(tmp_path / "none") is None


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    with another_holds(tmp_path) as other:
        assert holder_of(tmp_path) is not None
        other.kill()
        assert holder_of(tmp_path) is None


@pytest.fixture
def host_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the host's lock, as on a host where it is not there yet."""
    folder = tmp_path / "run" / "lock"
    folder.parent.mkdir()
    monkeypatch.setenv("VFIO_KIT_LOCK_DIR", str(folder))
    return folder


def test_the_hosts_lock_makes_its_folder_for_root_alone(host_folder: Path) -> None:
    with host_lock(patience=0):
        holder = holder_of(host_folder)
    assert holder is not None and holder.pid == os.getpid()
    assert host_folder.stat().st_mode & 0o777 == 0o700
    with host_lock(patience=0):
        pass


def test_a_folder_of_the_hosts_lock_that_cannot_be_made_is_named(host_folder: Path) -> None:
    host_folder.parent.rmdir()
    with pytest.raises(HostError, match=f"cannot make the folder {host_folder}"):
        host_lock()


_DOWN = """
import sys
from pathlib import Path
from vfio_kit.apply.journal import VmFolder
from vfio_kit.apply.transaction import take_down
take_down(VmFolder(Path(sys.argv[1]) / "vm"), print, lambda line: print(line, flush=True))
print("went on", flush=True)
"""


def test_two_state_directories_of_one_host_exclude_each_other(
    tmp_path: Path, host_folder: Path
) -> None:
    """The `down` of the one waits for the other, says for whom, and goes on."""
    with host_lock():
        down = subprocess.Popen(
            [sys.executable, "-c", _DOWN, tmp_path / "state"], stdout=subprocess.PIPE, text=True
        )
        assert down.stdout
        assert down.stdout.readline().startswith(f"waiting for process {os.getpid()} (")
        assert host_folder.exists() and down.poll() is None
    assert down.communicate(timeout=30)[0] == "went on\n"


def test_the_lock_of_another_folder_is_another_lock(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with another_holds(tmp_path / "a"), lock_folder(tmp_path / "b", 0, "is at it"):
        found = holder_of(tmp_path / "b")
        assert found is not None and found.pid == os.getpid()


def test_whoever_waits_is_told_once_for_whom(host_folder: Path) -> None:
    said: list[str] = []
    host_folder.mkdir()
    with another_holds(host_folder, "vfio-kit", "up", "other") as other:
        threading.Timer(0.4, other.let_go).start()
        with host_lock(said.append, patience=10):
            pass
    assert said == [f"waiting for process {other.pid} (vfio-kit up other), which changes this host"]


def test_who_need_not_wait_is_told_nothing(host_folder: Path) -> None:
    assert not host_folder.exists()
    with host_lock(lambda line: pytest.fail(line)):
        pass


def test_a_lock_that_stays_held_is_given_up_with_its_holder_and_what_to_do(
    host_folder: Path,
) -> None:
    host_folder.mkdir()
    with another_holds(host_folder, "vfio-kit", "bake", "x.qcow2") as other:
        begin = time.monotonic()
        with pytest.raises(HostError) as caught, host_lock(patience=0.3):
            pytest.fail("two hold the lock")
        assert 0.3 <= time.monotonic() - begin < 3
    assert caught.value.message == (
        f"process {other.pid} (vfio-kit bake x.qcow2) changes this host"
    )
    assert caught.value.hint.startswith(f"wait for it, or end it: kill {other.pid}")


@pytest.mark.parametrize("made_again", [False, True])
def test_the_lock_on_a_folder_that_its_holder_removed_is_no_lock(
    tmp_path: Path, made_again: bool
) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    with another_holds(folder) as other:

        def remove() -> None:
            folder.rmdir()
            if made_again:
                (tmp_path / "other").mkdir()
                (tmp_path / "other").rename(folder)
            other.let_go()

        threading.Timer(0.2, remove).start()
        with pytest.raises(HostError) as caught, lock_folder(folder, 10, "is at it"):
            pytest.fail("nobody else would see this lock")
    assert caught.value.message == "another vfio-kit is at it"
    assert "repeat the command" in caught.value.hint


def test_a_folder_that_is_not_there_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot open"), lock_folder(tmp_path / "none", 0, ""):
        pytest.fail("there is nothing to lock")
