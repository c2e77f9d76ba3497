"""Watching a first boot: the shell in the guest, run for real; a guest that goes and comes back."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest

from tests.unit.ssh_server import Behaviour, SshServer, answer, break_off
from tests.unit.test_first_boot import boot, stages, state
from tests.unit.tools import accepts
from tests.unit.values import said
from vfio_kit.analysis.guest.first_boot import Ending, FirstBoot, Record, RecordReader
from vfio_kit.errors import GuestError
from vfio_kit.guest.local import LocalRunner
from vfio_kit.guest.observe import (
    FOLLOW,
    NeverBack,
    NotUnderstood,
    last_lines,
    observe,
)
from vfio_kit.guest.runner import CommandTimeout
from vfio_kit.guest.ssh import Connection

DONE = stages(4)


# The shell in the guest.


def test_the_shell_is_sound() -> None:
    accepts("bash", "-n", stdin=FOLLOW)


class Guest:
    """The files that a guest under observation has, below a folder; FOLLOW runs for real."""

    def __init__(self, folder: Path, *files: str) -> None:
        """files: names of what is in /run/cloud-init from the start."""
        self.run, self.state = folder / "run", folder / "provision.state"
        self.run.mkdir()
        for name in files:
            (self.run / name).touch()
        command = FOLLOW.replace("/run/cloud-init", str(self.run))
        command = command.replace("/var/lib/vfio-kit/provision.state", str(self.state))
        tools = folder / "bin"
        tools.mkdir()
        (tools / "cloud-init").touch(0o755)
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        )
        self._reader = RecordReader()

    def put(self, path: Path, text: str) -> None:
        new = path.with_suffix(".new")
        new.write_text(text)
        new.replace(path)

    def record(self) -> Record:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            record = self._reader.feed(line.removesuffix("\n"))
            if record is not None:
                return record
        raise AssertionError("it ended")


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    found = Guest(tmp_path)
    with found.process as process:
        yield found
        process.kill()


def test_a_record_is_printed_whenever_something_has_changed(guest: Guest) -> None:
    own = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert guest.record() == Record("boot-id", own)
    guest.put(guest.run / "status.json", stages(2, 3).text)
    assert guest.record() == stages(2, 3)
    running = state("running")
    guest.put(guest.state, running.text)
    # The last line's end is the record's own.
    assert guest.record() == Record("provision", running.text.rstrip("\n"))
    guest.put(guest.run / "status.json", DONE.text)
    assert guest.record() == DONE
    guest.state.unlink()
    assert guest.record() == Record("provision", "")


def test_the_shell_ends_when_nobody_listens(guest: Guest) -> None:
    guest.record()
    assert guest.process.stdin is not None
    guest.process.stdin.close()
    assert guest.process.wait(5) == 0


def test_a_generator_that_disabled_cloud_init_is_told(tmp_path: Path) -> None:
    guest = Guest(tmp_path, "disabled")
    with guest.process as process:
        assert guest.record().name == "boot-id"
        assert guest.record() == Record("without", "disabled")
        process.kill()


def test_watching_starts_no_processes(guest: Guest) -> None:
    """Each costs an emulated guest tens of milliseconds."""
    guest.record()
    children = Path(f"/proc/{guest.process.pid}/task/{guest.process.pid}/children")
    time.sleep(1.2)
    assert children.read_text() == ""


# The ends of the logs.


def test_logs_are_read_from_their_ends(tmp_path: Path) -> None:
    log = tmp_path / "a log"
    log.write_bytes(b"old\n" * 5000 + b"(Reading database ... 5%\rlast\0 line\xff without an end")
    first, *_ = last_lines(LocalRunner(), str(log), str(tmp_path / "missing"))
    assert first.name == str(log)
    assert first.text.split("\n")[-2:] == ["old", "last line\ufffd without an end"]
    assert len(first.text.split("\n")) == 40


def test_logs_that_cannot_be_had_are_none(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server, Connection(server.target()) as connection:
        assert last_lines(connection, "/x") == ()


# The guest that goes and comes back.


def telling(*records: Record, then: Behaviour | None = None) -> Behaviour:
    """A guest that says this; then it stays silent until nobody listens."""

    def behave(channel: paramiko.Channel) -> None:
        for record in records:
            lines = record.text.split("\n") if record.text else []
            channel.sendall("\n".join([f"{record.name} {len(lines)}", *lines, ""]).encode())
        if then is not None:
            then(channel)
        else:
            channel.recv(1)

    return behave


@contextmanager
def guests(
    folder: Path, *boots: Behaviour, **commands: Behaviour
) -> Iterator[tuple[Callable[[], Connection], list[int]]]:
    """A server whose FOLLOW behaves as the next of `boots` does: the way in, and how often."""
    coming, logins = iter(boots), [0]

    def next_boot(channel: paramiko.Channel) -> None:
        next(coming)(channel)

    with SshServer(folder, {FOLLOW: next_boot, **commands}) as server:
        target = server.target()

        def reach() -> Connection:
            logins[0] += 1
            return Connection(target)

        yield reach, logins


def soon(seconds: float = 20) -> float:
    return time.monotonic() + seconds


def quiet(_boot: FirstBoot) -> None:
    """Shows nothing."""


def test_a_first_boot_without_a_reboot_takes_one_login(tmp_path: Path) -> None:
    shown: list[FirstBoot] = []
    behaviour = telling(boot(1), stages(3, 4), state("running"), state("done"), DONE)
    with guests(tmp_path, behaviour) as (reach, logins):
        known = observe(reach, FirstBoot("guest"), soon(), shown.append)
    assert (known.ending, logins) == (Ending.DONE, [1])
    activities = [str(one.activity) for one in shown]
    assert "[6/12] install the driver" in activities
    assert shown[-1] == known


def test_a_reboot_is_followed_with_the_same_host_key(tmp_path: Path) -> None:
    with guests(
        tmp_path,
        telling(boot(1), stages(3, 4), state("reboot"), stages(4), then=break_off),
        # The old sshd was still there when we came again.
        telling(boot(1), state("reboot"), then=break_off),
        telling(
            boot(2),
            state("reboot"),
            stages(3, 4),
            state("running", boot=2),
            state("done", boot=2),
            DONE,
        ),
    ) as (reach, logins):
        known = observe(reach, FirstBoot("guest"), soon(), quiet)
    assert (known.ending, known.boots, logins) == (Ending.DONE, ("boot-1", "boot-2"), [3])


def test_an_interrupt_ends_the_watching_at_once(tmp_path: Path) -> None:
    def interrupt(known: FirstBoot) -> None:
        if known.activity is not None:
            raise KeyboardInterrupt

    with (
        guests(tmp_path, telling(boot(1), stages(3, 4))) as (reach, _logins),
        pytest.raises(KeyboardInterrupt),
    ):
        observe(reach, FirstBoot("guest"), soon(), interrupt)


def test_a_loop_of_reboots_ends(tmp_path: Path) -> None:
    boots = [telling(boot(n), state("reboot", boot=n), then=break_off) for n in range(9)]
    with guests(tmp_path, *boots) as (reach, logins):
        known = observe(reach, FirstBoot("guest"), soon(), quiet)
    assert (known.ending, logins) == (Ending.REBOOT_LOOP, [4])


def test_a_guest_that_does_not_come_back_is_told_apart(tmp_path: Path) -> None:
    rebooting = telling(boot(1), state("reboot"), then=break_off)
    with guests(tmp_path, rebooting) as (reach, _logins):

        def once() -> Connection:
            if known:
                raise GuestError("no SSH server answered in time", "its console log says")
            return reach()

        known: list[FirstBoot] = []
        with pytest.raises(NeverBack, match="did not come back: no SSH server") as caught:
            observe(once, FirstBoot("guest"), soon(), known.append)
        assert caught.value.hint == "its console log says"


def test_a_guest_that_nobody_reached_is_a_plain_error() -> None:
    def never() -> Connection:
        raise GuestError("nobody there")

    with pytest.raises(GuestError, match="nobody there") as caught:
        observe(never, FirstBoot(None), soon(), quiet)
    assert not isinstance(caught.value, NeverBack)


def test_a_first_boot_without_end_is_left_in_time(tmp_path: Path) -> None:
    with (
        guests(tmp_path, telling(boot(1), stages(3, 4))) as (reach, _logins),
        pytest.raises(CommandTimeout),
    ):
        observe(reach, FirstBoot("guest"), soon(0.5), quiet)


def test_a_guest_that_says_nonsense_is_told(tmp_path: Path) -> None:
    with (
        guests(tmp_path, telling(boot(1), Record("cloud-init", "{"))) as (reach, _logins),
        pytest.raises(NotUnderstood, match=r"not cloud-init's status\.json"),
    ):
        observe(reach, FirstBoot(None), soon(), quiet)


def test_the_connection_that_saw_the_end_is_there_for_the_next_question(tmp_path: Path) -> None:
    answers: list[str] = []
    uname = answer(said("Linux\n"))
    with guests(tmp_path, telling(boot(1), DONE), uname=uname) as (reach, logins):
        observe(
            reach,
            FirstBoot(None),
            soon(),
            quiet,
            at_end=lambda _boot, connection: answers.append(connection.run("uname").stdout),
        )
    assert (answers, logins) == (["Linux\n"], [1])


def test_a_document_in_many_lines_comes_whole(tmp_path: Path) -> None:
    text = json.dumps(json.loads(DONE.text), indent=8)
    with guests(tmp_path, telling(boot(1), Record("cloud-init", text))) as (reach, _logins):
        assert observe(reach, FirstBoot(None), soon(), quiet).ending is Ending.DONE


def test_a_guest_without_bash_is_not_asked_for_ever(tmp_path: Path) -> None:
    missing = answer(said("", 127, "sh: 1: bash: not found\n"))
    with (
        guests(tmp_path, *[missing] * 9) as (reach, logins),
        pytest.raises(NotUnderstood, match="cannot be watched"),
    ):
        observe(reach, FirstBoot(None), soon(), quiet)
    assert logins == [5]
