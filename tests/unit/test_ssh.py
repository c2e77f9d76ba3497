"""SSH to a guest: only to the machine that is meant, and never for ever."""

import socket
import subprocess
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
from tests.unit.tools import accepts
from tests.unit.values import said
from vfio_kit.apply.keys import new_key
from vfio_kit.errors import GuestError, HypervisorError
from vfio_kit.guest.probe import COMMANDS, TIMED_OUT, probe
from vfio_kit.guest.ssh import (
    CommandTimeout,
    Connection,
    Target,
    connect_when_ready,
    wait_for_banner,
)


def refusal(target: Target) -> GuestError:
    with pytest.raises(GuestError) as caught:
        Connection(target)
    assert caught.value.message.startswith(f"root@127.0.0.1:{target.port}: ")
    return caught.value


def test_a_command_gives_both_streams_and_its_status(tmp_path: Path) -> None:
    commands = {
        "uname": answer(said("Linux é\n", 0)),
        "false": answer(said("out\n", 3, "err\n")),
    }
    with SshServer(tmp_path, commands) as server, Connection(server.target()) as connection:
        assert connection.run("uname") == said("Linux é\n")
        assert connection.run("false") == said("out\n", 3, "err\n")
        assert connection.run("other") == said("", 127, "command not found\n")


def test_much_output_comes_whole(tmp_path: Path) -> None:
    big = "0123456789" * 400_000
    commands = {"cat": answer(said(big))}
    with SshServer(tmp_path, commands) as server, Connection(server.target()) as connection:
        assert connection.run("cat").stdout == big


def test_output_that_is_no_text_is_no_obstacle(tmp_path: Path) -> None:
    def binary(channel: paramiko.Channel) -> None:
        channel.sendall(b"\xff\xfe\x00x")
        answer(said())(channel)

    with (
        SshServer(tmp_path, {"x": binary}) as server,
        Connection(server.target()) as connection,
    ):
        assert connection.run("x").stdout == "\ufffd\ufffd\x00x"


def test_a_guest_is_known_by_its_name_before_it_has_an_address(tmp_path: Path) -> None:
    commands = {"true": answer(said())}
    with (
        SshServer(tmp_path, commands) as server,
        Connection(server.target(alias="gpu-vm")) as connection,
    ):
        assert connection.run("true").exit_status == 0


def test_an_unknown_host_key_is_not_trusted(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        error = refusal(server.target(server.known_hosts(f"other-machine {new_key('x').public}")))
    assert "its host key is not known, and unknown keys are not trusted" in error.message
    assert "--known-hosts" in error.hint


def test_the_key_of_another_name_does_not_count(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        known = server.known_hosts(f"other-vm {server.host_key.public}")
        assert "is not known" in refusal(server.target(known, alias="gpu-vm")).message


def test_a_changed_host_key_is_refused(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        known = server.known_hosts(f"gpu-vm {new_key('another').public}")
        error = refusal(server.target(known, alias="gpu-vm"))
    assert "the host key is not the one that is known" in error.message
    assert "nothing was sent" in error.hint


def test_the_users_own_known_hosts_are_asked_where_no_file_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    commands = {"true": answer(said())}
    with SshServer(tmp_path, commands) as server:
        target = Target("127.0.0.1", server.port, "root", server.identity)
        assert "is not known" in refusal(target).message
        (tmp_path / ".ssh").mkdir()
        line = f"[127.0.0.1]:{server.port} {server.host_key.public}\n"
        (tmp_path / ".ssh" / "known_hosts").write_text(line)
        with Connection(target) as connection:
            assert connection.run("true").exit_status == 0


def test_known_hosts_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = tmp_path / "none"
    with pytest.raises(GuestError) as caught:
        Connection(Target("127.0.0.1", 9, "root", None, path))
    assert caught.value.message.startswith(f"cannot read the known host keys in {path}: ")
    assert "No such file or directory" in caught.value.message


def test_a_key_that_the_server_does_not_take(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        target = server.target()
        server.identity.write_text(new_key("stranger").private)
        error = refusal(target)
    assert "the server accepts none of our keys" in error.message
    assert "--identity" in error.hint


def test_an_identity_that_is_not_there_is_named(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        target = server.target()
        server.identity.unlink()
        error = refusal(target)
    assert "No such file or directory" in error.message


def test_nobody_listens(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        target = server.target()
    assert "cannot connect: " in refusal(target).message


def test_a_server_that_speaks_something_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def speak() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n" * 200)

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        known = tmp_path / "known_hosts"
        known.touch()
        assert "cannot connect: " in refusal(Target("127.0.0.1", port, "root", None, known)).message
        thread.join(10)


def test_a_slow_banner_is_waited_for(tmp_path: Path) -> None:
    commands = {"true": answer(said())}
    with (
        SshServer(tmp_path, commands, banner_delay=0.4) as server,
        Connection(server.target()) as connection,
    ):
        assert connection.run("true").exit_status == 0


def test_a_command_that_hangs_ends_in_time_and_leaves_the_connection(tmp_path: Path) -> None:
    commands = {"sleep": hang, "true": answer(said())}
    with SshServer(tmp_path, commands) as server, Connection(server.target()) as connection:
        begin = time.monotonic()
        with pytest.raises(CommandTimeout) as caught:
            connection.run("sleep", timeout=0.2)
        assert time.monotonic() - begin < 5
        assert caught.value.message == (f"root@127.0.0.1:{server.port}: no end within 0 s: sleep")
        assert connection.run("true").exit_status == 0


@pytest.mark.parametrize("behaviour", [break_off, end_without_status])
def test_a_connection_that_breaks_is_no_result(tmp_path: Path, behaviour: Behaviour) -> None:
    commands = {"x": behaviour}
    with (
        SshServer(tmp_path, commands) as server,
        Connection(server.target()) as connection,
        pytest.raises(GuestError) as caught,
    ):
        connection.run("x", timeout=5)
    assert "the connection broke" in caught.value.message


def test_a_connection_that_is_closed_is_no_connection(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        with Connection(server.target()) as connection:
            pass
        with pytest.raises(GuestError) as caught:
            connection.run("true")
    assert "the connection is closed" in caught.value.message


def test_targets_print_as_one_would_type_them() -> None:
    assert str(Target("gpu-vm", 22, "ubuntu")) == "ubuntu@gpu-vm"
    assert str(Target("gpu-vm", 2222, "ubuntu")) == "ubuntu@gpu-vm:2222"


# Probes: one connection, fixed commands; one that hangs does not keep the others from running.


def test_all_probes_run(tmp_path: Path) -> None:
    commands = {command: answer(said(code, 0)) for code, command in COMMANDS.items()}
    with SshServer(tmp_path, commands) as server, Connection(server.target()) as connection:
        assert probe(connection) == {code: said(code) for code in COMMANDS}


def test_a_probe_that_hangs_counts_as_timed_out_and_the_next_one_runs(tmp_path: Path) -> None:
    commands = {command: answer(said(code)) for code, command in COMMANDS.items()}
    commands[COMMANDS["nvidia-smi"]] = hang
    with SshServer(tmp_path, commands) as server, Connection(server.target()) as connection:
        results = probe(connection, timeout=0.2)
    assert results["nvidia-smi"].exit_status == TIMED_OUT
    assert "no end within" in results["nvidia-smi"].stderr
    assert results["device-query"] == said("device-query")


@pytest.mark.parametrize("behaviour", [break_off, end_without_status])
def test_a_connection_that_breaks_is_not_a_tool_that_hangs(
    tmp_path: Path, behaviour: Behaviour
) -> None:
    commands = {command: answer(said(code)) for code, command in COMMANDS.items()}
    commands[COMMANDS["nvidia-smi"]] = behaviour
    with (
        SshServer(tmp_path, commands) as server,
        Connection(server.target()) as connection,
        pytest.raises(GuestError) as caught,
    ):
        probe(connection, timeout=5)
    assert "the connection broke" in caught.value.message
    assert not isinstance(caught.value, CommandTimeout)


@pytest.mark.parametrize("code", COMMANDS)
def test_the_probes_are_sound_shell(code: str) -> None:
    accepts("bash", "-n", stdin=COMMANDS[code])
    accepts("shellcheck", "--shell=sh", "--severity=warning", "-", stdin=COMMANDS[code])


def test_the_probe_finds_device_query_on_the_path(tmp_path: Path) -> None:
    command = ["sh", "-c", COMMANDS["device-query"]]
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    without = subprocess.run(command, check=False, capture_output=True, text=True, env=path)
    assert (without.returncode, without.stderr) == (127, "deviceQuery: command not found\n")
    script = tmp_path / "deviceQuery"
    script.write_text("#!/bin/sh\necho Result = FAIL\nexit 1\n")
    script.chmod(0o755)
    there = subprocess.run(command, check=False, capture_output=True, text=True, env=path)
    assert (there.returncode, there.stdout) == (1, "Result = FAIL\n")


# Waiting for the first sign of life.


def soon(seconds: float = 5) -> float:
    return time.monotonic() + seconds


def alive() -> None:
    """The VM is still there."""


def test_a_server_that_greets_is_found(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        assert wait_for_banner(lambda: "127.0.0.1", server.port, soon(), alive) == "127.0.0.1"


def test_an_address_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    answers = iter([None, None, "127.0.0.1", None, None, None, None])
    with SshServer(tmp_path, banner_delay=0.1) as server:
        assert wait_for_banner(lambda: next(answers), server.port, soon(), alive) == "127.0.0.1"


def test_a_lease_that_ran_out_does_not_make_the_address_unknown() -> None:
    answers = iter(["127.0.0.1", None, None, None])
    with pytest.raises(GuestError) as caught:
        wait_for_banner(lambda: next(answers, None), 1, soon(0.3), alive)
    assert caught.value.message == "no SSH server answered at 127.0.0.1:1 in time"


def test_a_guest_that_never_asks_for_an_address() -> None:
    with pytest.raises(GuestError) as caught:
        wait_for_banner(lambda: None, 22, soon(0.1), alive)
    assert caught.value.message == "the guest asked for no network address in time"
    assert "console log" in caught.value.hint


def test_a_port_that_opens_without_a_greeting_is_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(GuestError) as caught:
            wait_for_banner(lambda: "127.0.0.1", port, soon(0.3), alive)
    assert caught.value.message == f"no SSH server answered at 127.0.0.1:{port} in time"


def test_waiting_ends_at_once_when_the_vm_is_gone() -> None:
    def gone() -> None:
        raise HypervisorError("the VM stopped while it booted")

    begin = time.monotonic()
    with pytest.raises(HypervisorError):
        wait_for_banner(lambda: None, 22, soon(60), gone)
    assert time.monotonic() - begin < 5


def test_no_waiting_before_the_deadline_is_no_waiting() -> None:
    with pytest.raises(GuestError):
        wait_for_banner(lambda: "127.0.0.1", 1, soon(-1), alive)


def test_a_guest_that_opens_logins_late_is_logged_in_to(tmp_path: Path) -> None:
    commands = {"x": answer(said("in\n"))}
    with (
        SshServer(tmp_path, commands, closed_for=1) as server,
        connect_when_ready(server.target(), time.monotonic() + 30) as connection,
    ):
        assert connection.run("x").stdout == "in\n"


def test_a_login_that_stays_refused_ends_with_its_patience(tmp_path: Path) -> None:
    with (
        SshServer(tmp_path, closed_for=60) as server,
        pytest.raises(GuestError, match="accepts none of our keys"),
    ):
        connect_when_ready(server.target(), time.monotonic() + 30, patience=1)


def test_a_wrong_host_key_is_final(tmp_path: Path) -> None:
    with SshServer(tmp_path) as server:
        other = new_key("other").public
        known = server.known_hosts(f"[127.0.0.1]:{server.port} {other}")
        begin = time.monotonic()
        with pytest.raises(GuestError, match="not the one that is known"):
            connect_when_ready(server.target(known), begin + 30)
        assert time.monotonic() - begin < 2
