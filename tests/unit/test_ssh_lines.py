"""Lines of a command as they come, over SSH: what `up` watches a first boot with."""

import threading
import time
from pathlib import Path

import paramiko
import pytest

from tests.unit.ssh_server import (
    Behaviour,
    SshServer,
    answer,
    break_off,
    end_without_status,
    hang,
)
from tests.unit.values import said
from vfio_kit.errors import GuestError
from vfio_kit.guest.ssh import CommandTimeout, Connection


def lines(server: SshServer, command: str, timeout: float = 10) -> list[str]:
    with Connection(server.target()) as connection:
        return [line for line in connection.lines(command, timeout) if line is not None]


def test_lines_come_whole_and_in_order(tmp_path: Path) -> None:
    text = "".join(f"line {number} é\n" for number in range(5000)) + "cut off"
    with SshServer(tmp_path, {"cat": answer(said(text))}) as server:
        assert lines(server, "cat") == text.splitlines()[:-1]


def test_a_line_comes_when_it_is_said_not_at_the_end(tmp_path: Path) -> None:
    go_on = threading.Event()

    def slow(channel: paramiko.Channel) -> None:
        channel.sendall(b"fir")
        channel.sendall(b"st\n")
        assert go_on.wait(20)
        answer(said("second\n"))(channel)

    with SshServer(tmp_path, {"slow": slow}) as server, Connection(server.target()) as connection:
        coming = connection.lines("slow", 20)
        assert next(line for line in coming if line is not None) == "first"
        # While nothing is said the reader has the word, to look at other things.
        assert next(coming) is None
        go_on.set()
        assert [line for line in coming if line is not None] == ["second"]
        assert connection.alive


def test_a_reader_who_leaves_is_noticed_by_the_command(tmp_path: Path) -> None:
    noticed = threading.Event()

    def until_nobody_listens(channel: paramiko.Channel) -> None:
        channel.sendall(b"hello\n")
        if channel.recv(1) == b"":
            noticed.set()

    commands = {"wait": until_nobody_listens, "true": answer(said())}
    with SshServer(tmp_path, commands) as server, Connection(server.target()) as connection:
        coming = connection.lines("wait", 20)
        assert next(coming) == "hello"
        coming.close()
        assert noticed.wait(5)
        assert connection.run("true").exit_status == 0


def test_a_command_without_end_is_left_in_time(tmp_path: Path) -> None:
    commands = {"sleep": hang, "true": answer(said())}
    with SshServer(tmp_path, commands) as server, Connection(server.target()) as connection:
        begin = time.monotonic()
        with pytest.raises(CommandTimeout, match="no end within 0 s: sleep"):
            list(connection.lines("sleep", 0.2))
        assert time.monotonic() - begin < 5
        assert connection.run("true").exit_status == 0


@pytest.mark.parametrize("behaviour", [break_off, end_without_status])
def test_a_connection_that_breaks_is_no_end(tmp_path: Path, behaviour: Behaviour) -> None:
    with (
        SshServer(tmp_path, {"x": behaviour}) as server,
        pytest.raises(GuestError, match="the connection broke"),
    ):
        lines(server, "x")


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    failing = answer(said("one\n", 127, "sh: 1: bash: not found\n"))
    with (
        SshServer(tmp_path, {"x": failing}) as server,
        pytest.raises(GuestError, match="bash: not found"),
    ):
        lines(server, "x")
