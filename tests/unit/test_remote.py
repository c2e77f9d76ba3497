"""--connect: another host, over OpenSSH's client and a server on loopback."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tests.examples import few
from tests.machines import m4000_isolated, m4000_shared, write_machine
from tests.unit.gpu_host import GpuHost
from vfio_kit import __version__
from vfio_kit.apply.journal import VmFolder, VmRecord
from vfio_kit.cli import _cli
from vfio_kit.cli.connect import REMOTE
from vfio_kit.cli.origin import Origin, as_typed, next_words, set_origin
from vfio_kit.errors import HostError, UsageError
from vfio_kit.model.vm import StepKind
from vfio_kit.remote.protocol import Request
from vfio_kit.remote.uri import RemoteHost, parse_uri

HELLO = "printf 'vfio-kit remote 1 0.1.0\\n'"
GONE = "qemu+ssh://127.0.0.1:1/system"
"""Nobody listens there."""


def vfio_kit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(_cli, [str(word) for word in arguments], prog_name="vfio-kit")


def started(*arguments: str | Path) -> "subprocess.Popen[str]":
    """A process of its own, for signals."""
    return subprocess.Popen(
        [sys.executable, "-m", "vfio_kit", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# The URI


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("qemu+ssh://gpu1/system", ("gpu1", None, None, None, None)),
        ("qemu+ssh://root@GPU-1.lab:2222/system", ("GPU-1.lab", "root", 2222, None, None)),
        ("qemu+ssh://[fe80::1%25eth0]/system", ("fe80::1%eth0", None, None, None, None)),
        ("qemu+ssh://me@[2001:db8::1]:22/system", ("2001:db8::1", "me", 22, None, None)),
        (
            "qemu+ssh://h/system?keyfile=/k/id&known_hosts=%2Fk%2Fh&known_hosts_verify=normal",
            ("h", None, None, "/k/id", "/k/h"),
        ),
    ],
)
def test_libvirts_uri(uri: str, host: tuple[Any, ...]) -> None:
    assert parse_uri(uri) == RemoteHost(uri, *host)


def test_the_uri_of_this_host() -> None:
    assert parse_uri("qemu:///system") is None


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("gpu1", "--connect gpu1: it is no URI"),
        ("", "it is no URI"),
        ("ssh://gpu1/system", "'ssh'"),
        ("qemu://gpu1/system", "'qemu'"),
        ("qemu+tls://gpu1/system", "'qemu+tls'"),
        ("qemu+ssh://gpu1/session", "/session"),
        ("qemu+ssh://gpu1", "has to end in /system"),
        ("qemu+ssh://", "has to end in /system"),
        ("qemu+ssh:///system", "names no host"),
        ("qemu+ssh://root:secret@gpu1/system", "is no secret"),
        ("qemu+ssh://-oProxyCommand=x/system", "is no host"),
        ("qemu+ssh://gpu1;touch x/system", "is no host"),
        ("qemu+ssh://$(id)@gpu1/system", "is no user"),
        ("qemu+ssh://-l@gpu1/system", "is no user"),
        ("qemu+ssh://gpu1:0/system", "is no port"),
        ("qemu+ssh://gpu1:99999/system", "is no port"),
        ("qemu+ssh://gpu1:x/system", "is no port"),
        ("qemu+ssh://[::1/system", "Invalid IPv6"),
        ("qemu+ssh://[gpu1]/system", ""),
        ("qemu+ssh://::1/system", "is no"),
        ("qemu+ssh://gpu1/system#x", "#x"),
        ("qemu+ssh://gpu1/system?no_verify=1", "no_verify is not taken: the host's key is always"),
        ("qemu+ssh://gpu1/system?known_hosts_verify=auto", "known_hosts_verify=auto"),
        ("qemu+ssh://gpu1/system?socket=/x", "socket is not taken: no libvirt socket"),
        ("qemu+ssh://gpu1/system?command=/x", "command is not taken"),
        ("qemu+ssh://gpu1/system?colour=1", "colour is not known"),
        ("qemu+ssh://gpu1/system?keyfile=id", "absolute path"),
        ("qemu+ssh://gpu1/system?keyfile=/a/${HOME}", "absolute path"),
        ("qemu+ssh://gpu1/system?keyfile=/a&keyfile=/b", "twice"),
        ("qemu+ssh://gpu1/system?keyfile", ""),
        ("qemu+ssh://gpu1\n/system", "control character"),
    ],
)
def test_what_cannot_be_meant_is_named_and_the_secret_is_not(uri: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_uri(uri)
    assert why in caught.value.message
    assert "secret" not in caught.value.message.replace("no secret", "")


# The request

WORDS = st.text(max_size=20) | st.sampled_from(["$(id)", "a b", "'\"", "\n", "\udcff", "--", "é"])


@settings(max_examples=few(20))
@given(st.lists(WORDS, min_size=1, max_size=4), st.binary(max_size=40))
def test_a_request_comes_as_it_was_sent_in_one_line(words: list[str], data: bytes) -> None:
    request = Request(("up", *words), {1: data}, (True, False), 132, words[0], words[-1])
    line = request.line()
    assert line.count(b"\n") == 1 and line.endswith(b"\n") and line.isascii()
    assert Request.read(line) == request


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"protocol": 2}',
        b'{"protocol": 1, "argv": []}',
        Request(("list",)).line().replace(b'["list"]', b'"list"'),
        Request(("list",)).line().replace(b'["list"]', b"[1]"),
        Request(("list",)).line().replace(b'["list"]', b"[]"),
        Request(("list", "x"), {1: b"x"}).line().replace(b'"1"', b'"0"'),
        Request(("list", "x"), {1: b"x"}).line().replace(b'"1"', b'"2"'),
    ],
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(HostError):
        Request.read(line)


# scan, plan and render read that host


def test_scan_and_plan_of_another_host_are_those_of_its_tree(tmp_path: Path) -> None:
    root = write_machine(tmp_path / "tree", m4000_isolated())
    with GpuHost(tmp_path / "host", {"VFIO_KIT_ROOT": root}) as host:
        for words in (("scan", "--json"), ("plan", "--gpu", "01:00.0", "--json")):
            there = vfio_kit(*words, "--connect", host.uri)
            assert (there.exit_code, there.stderr) == (0, "")
            assert there.stdout == vfio_kit(*words, "--root", root).stdout
        shown = vfio_kit("scan", "--connect", host.uri)
        assert shown.stdout.endswith(
            f"next: vfio-kit plan --gpu 0000:01:00.0 --connect {shlex.quote(host.uri)}\n"
        )
        plan = vfio_kit("plan", "--gpu", "01:00.0", "--connect", host.uri).stdout
        assert f"next: vfio-kit up gpu-vm --connect {shlex.quote(host.uri)}, with" in plan
        files = tmp_path / "files"
        rendering = ("render", "--gpu", "01:00.0", "--output", "libvirt", "-o", str(files))
        assert vfio_kit(*rendering, "--connect", host.uri).exit_code == 0
        assert (files / "domain.xml").exists()


def test_a_snapshot_of_another_host_is_the_one_taken_there(tmp_path: Path) -> None:
    root = write_machine(tmp_path / "tree", m4000_isolated())
    files = tmp_path / "there.tar.gz", tmp_path / "here.tar.gz"
    with GpuHost(tmp_path / "host", {"VFIO_KIT_ROOT": root}) as host:
        assert vfio_kit("snapshot", "--connect", host.uri, "-o", files[0]).exit_code == 0
    assert vfio_kit("snapshot", "--root", root, "-o", files[1]).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_judgement_of_another_host_is_the_exit_status(tmp_path: Path) -> None:
    root = write_machine(tmp_path / "tree", m4000_shared())
    with GpuHost(tmp_path / "host", {"VFIO_KIT_ROOT": root}) as host:
        result = vfio_kit("scan", "-q", "--connect", host.uri)
    assert (result.exit_code, result.output) == (3, "")


def test_a_host_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with GpuHost(tmp_path / "host", {"VFIO_KIT_ROOT": tmp_path}) as host:
        result = vfio_kit("scan", "--connect", host.uri)
    assert result.exit_code == 4
    assert "no PCI bus" in result.stderr and "exit 4" in result.stderr


@pytest.mark.parametrize("sent", ["echo garbage", "exit 0", "head -c 70000000 /dev/zero"])
def test_a_hostile_snapshot_is_refused(tmp_path: Path, sent: str) -> None:
    with GpuHost(tmp_path / "host", tools={"vfio-kit": f"{HELLO}; {sent}"}) as host:
        result = vfio_kit("scan", "--connect", host.uri)
    assert (result.exit_code, result.stdout) == (4, "")
    assert f"root@127.0.0.1:{host.port} sen" in result.stderr


def test_two_machines_are_one_too_many(tmp_path: Path) -> None:
    result = vfio_kit("scan", "--connect", GONE, "--root", tmp_path)
    assert (result.exit_code, "--root and --connect name two" in result.stderr) == (2, True)


# What stands between


def connecting(host: GpuHost) -> Result:
    return vfio_kit("verify", "vm", "--connect", host.uri)


def test_a_host_whose_key_is_unknown_is_not_spoken_to(tmp_path: Path) -> None:
    with GpuHost(tmp_path) as host:
        other = tmp_path / "other"
        other.write_text("")
        uri = host.uri.replace(str(host.known_hosts), str(other))
        result = vfio_kit("verify", "vm", "--connect", uri)
        assert host.lines == []
    assert (result.exit_code, result.stdout) == (4, "")
    assert "Host key verification failed" in result.stderr


def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    result = vfio_kit("verify", "vm", "--connect", GONE)
    assert (result.exit_code, result.stdout) == (4, "")
    assert "cannot be reached by ssh" in result.stderr and "ssh -p 1 127.0.0.1" in result.stderr


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        (
            {"vfio-kit": "printf 'vfio-kit remote 99 7.1\\n'"},
            ("(7.1)", "protocol 99", f"({__version__})"),
        ),
        ({"vfio-kit": "echo Error: No such command >&2; exit 2"}, ("older than this one",)),
        ({"id": "echo 1000", "sudo": "exit 1"}, ("exit 1", "NOPASSWD", "vfio-kit remote")),
        (
            {"id": "echo 1000", "sudo": "echo sudo: a password is required >&2; exit 1"},
            ("sudo: a password is required", "NOPASSWD"),
        ),
        ({"vfio-kit": f"{HELLO}; kill -9 $$"}, ("the connection was lost", "list --connect")),
    ],
    ids=["protocol", "older", "sudo", "password", "killed"],
)
def test_what_stands_between_is_said(
    tmp_path: Path, tools: dict[str, str], words: tuple[str, ...]
) -> None:
    with GpuHost(tmp_path, tools=tools) as host:
        result = connecting(host)
    assert (result.exit_code, result.stdout) == (4, "")
    for word in words:
        assert word in result.stderr


def test_a_host_without_vfio_kit(tmp_path: Path) -> None:
    with GpuHost(tmp_path) as host:
        (host.bin / "vfio-kit").unlink()
        result = connecting(host)
    assert result.exit_code == 4
    assert "has no vfio-kit" in result.stderr and "install it there" in result.stderr


def test_who_is_not_root_there_goes_through_sudo(tmp_path: Path) -> None:
    tools = {"id": "echo 1000", "sudo": f'printf "%s " "$@" > {tmp_path}/asked; shift 2; exec "$@"'}
    with GpuHost(tmp_path / "host", tools=tools) as host:
        result = connecting(host)
        assert (result.exit_code, "no VM 'vm' here" in result.stderr) == (2, True)
        assert (tmp_path / "asked").read_text() == f"-n -- {host.bin}/vfio-kit remote "


def test_a_key_may_be_bound_to_the_one_command(tmp_path: Path) -> None:
    with GpuHost(tmp_path, forced="vfio-kit remote") as host:
        result = connecting(host)
    assert (result.exit_code, "no VM 'vm' here" in result.stderr) == (2, True)


def test_a_snapshot_needs_no_sudo(tmp_path: Path) -> None:
    root = write_machine(tmp_path / "tree", m4000_isolated())
    tools = {"id": "echo 1000", "sudo": "exit 1"}
    with GpuHost(tmp_path / "host", {"VFIO_KIT_ROOT": root}, tools) as host:
        assert vfio_kit("scan", "--connect", host.uri).exit_code == 0


# Streams and exit status


def test_both_streams_and_the_exit_status_come_through(tmp_path: Path) -> None:
    says = f"echo welcome; {HELLO}; echo to stdout; echo to stderr >&2; exit $(cat {tmp_path}/s)"
    with GpuHost(tmp_path, tools={"vfio-kit": says}) as host:
        for status in (0, 1, 3, 6, 130):
            (tmp_path / "s").write_text(str(status))
            result = connecting(host)
            assert result.exit_code == status
            assert (result.stdout, result.stderr) == ("to stdout\n", "to stderr\n")


def test_the_log_is_the_workstations(tmp_path: Path) -> None:
    """And has what the host said; the option does not go along."""
    log = tmp_path / "log"
    with GpuHost(tmp_path / "host") as host:
        words = ("down", "x", "--state-dir", tmp_path / "state", "--connect", host.uri)
        result = vfio_kit(*words, "--log-file", log)
    assert result.exit_code == 2 and result.stderr.startswith("error: no VM 'x' here\n")
    lines = [line.split(maxsplit=2)[2] for line in log.read_text().splitlines()]
    for line in result.stderr.splitlines():
        assert line.strip() in lines
    (told,) = (line for line in lines if line.startswith("ssh to "))
    assert told == f"ssh to root@127.0.0.1: vfio-kit down --state-dir={tmp_path}/state -- x"
    assert lines[-1].endswith("exit status 2")


def test_hostile_words_reach_the_command_and_no_shell(tmp_path: Path) -> None:
    keep = f"head -n 1 > {tmp_path}/request; {HELLO}"
    hostile = ("$(touch pwned)", "`id`", "a'b\"c", "line\nfeed", "; rm -rf x", "--json", "é\udcff")
    with GpuHost(tmp_path / "host", tools={"vfio-kit": keep}) as host:
        words = ("verify", "--expect", hostile[0], "--connect", host.uri, "--", *hostile)
        assert vfio_kit(*words).exit_code == 0
        sent = Request.read((tmp_path / "request").read_bytes())
        assert sent.argv == ("verify", f"--expect={hostile[0]}", "--", *hostile)
        assert all("pwned" not in line for line in host.lines)
        assert list(tmp_path.rglob("pwned")) == []
    with GpuHost(tmp_path / "real") as host:
        result = vfio_kit("verify", "--connect", host.uri, "--", "$(touch pwned)")
        assert (result.exit_code, "is no name" in result.stderr) == (2, True)
    assert list(tmp_path.rglob("pwned")) == []


def test_the_environment_of_the_workstation_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VFIO_KIT_STATE_DIR", "relative/and/mine")
    keep = f"head -n 1 > {tmp_path}/request; {HELLO}"
    with GpuHost(tmp_path / "host", tools={"vfio-kit": keep}) as host:
        assert connecting(host).exit_code == 0
    assert Request.read((tmp_path / "request").read_bytes()).argv == ("verify", "--", "vm")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--state-dir", "here"), "a path on"),
        (("--host", "x"), "goes with --host"),
        (("--local",), "goes with --host"),
        (("--junit", "/etc/x"), "- is stdout"),
    ],
)
def test_what_has_no_meaning_there_is_refused_here(words: tuple[str, ...], why: str) -> None:
    result = vfio_kit("verify", "vm", *words, "--connect", GONE)
    assert (result.exit_code, why in result.stderr) == (2, True)


# up: the spec is the workstation's, all other paths are the host's

SPEC = """name = "vm"
gpus = ["ffff:01:00.0"]  # $(touch pwned)
image = "/images/a b's $(touch pwned).img"
"""


def test_the_spec_goes_along_and_its_name_does_not(tmp_path: Path) -> None:
    spec = tmp_path / "we'ird $(touch pwned)\n;.toml"
    spec.write_text(SPEC)
    keep = f"head -n 1 > {tmp_path}/request; {HELLO}"
    words = ("up", "vm", "--spec", spec, "--memory", "4096", "--json", "--no-pin")
    with GpuHost(tmp_path / "host", tools={"vfio-kit": keep}) as host:
        assert vfio_kit(*words, "--connect", host.uri).exit_code == 0
        sent = Request.read((tmp_path / "request").read_bytes())
        place = sent.argv.index("--spec") + 1
        assert sent.files == {place: SPEC.encode()}
        assert sent.argv[-2:] == ("--", "vm")
        assert {"--memory=4096", "--json", "--no-pin"} <= set(sent.argv)
        assert sent.uri == host.uri
        assert shlex.split(sent.login)[:2] == ["ssh", "-t"]
    with GpuHost(tmp_path / "real") as host:
        result = vfio_kit("up", "vm", "--spec", spec, "--connect", host.uri)
        assert result.exit_code in (2, 4), result.stderr  # there is no such card, or no PCI bus
        assert "Traceback" not in result.stderr and "spec" not in result.stderr
    assert list(tmp_path.rglob("pwned")) == []


def test_a_wrong_spec_is_told_where_it_lies_and_nobody_is_asked(tmp_path: Path) -> None:
    spec = tmp_path / "vm.toml"
    spec.write_text('name = "vm"\ngpus = ["01:00.0"]\nmemory = "much"\n')
    result = vfio_kit("up", "vm", "--spec", spec, "--connect", GONE)
    assert (result.exit_code, f"{spec}:3: memory" in result.stderr) == (2, True)


def test_a_saved_plan_goes_along_and_brings_its_own_options(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text("{}")
    keep = f"head -n 1 > {tmp_path}/request; {HELLO}"
    with GpuHost(tmp_path / "host", tools={"vfio-kit": keep}) as host:
        result = vfio_kit("up", "vm", "--plan", plan, "--connect", host.uri)
    assert result.exit_code == 0, result.stderr
    assert list(Request.read((tmp_path / "request").read_bytes()).files.values()) == [b"{}"]


def test_an_image_is_the_hosts(tmp_path: Path) -> None:
    words = ("up", "vm", "--gpu", "01:00.0", "--connect", GONE)
    result = vfio_kit(*words, "--image", "jammy.img")
    assert (result.exit_code, "it is a path on 127.0.0.1:1" in result.stderr) == (2, True)
    assert vfio_kit(*words, "--image", "/nowhere/jammy.img").exit_code == 4  # ssh was tried


def test_the_command_to_log_in_works_where_it_is_printed() -> None:
    """ssh hands its words to a shell: one quoting for each of the two."""
    import click

    words = ["ssh", "-i", "/a b/$(id)'s/key", "ubuntu@192.0.2.7"]
    with click.Context(_cli) as ctx:
        assert as_typed(shlex.join(words)) == shlex.join(words)
        set_origin(ctx, Origin("qemu+ssh://gpu1/system", "ssh -t gpu1"))
        typed = shlex.split(as_typed(shlex.join(words)))
        assert typed[:3] == ["ssh", "-t", "gpu1"] and len(typed) == 4
        assert shlex.split(typed[3]) == ["sudo", *words]
        assert next_words() == " --connect qemu+ssh://gpu1/system"


# vfio-kit remote


def remote(line: bytes) -> "subprocess.CompletedProcess[bytes]":
    """Its stdin stays open, as a workstation's does."""
    with subprocess.Popen(
        [sys.executable, "-m", "vfio_kit", "remote"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(line)
        process.stdin.flush()
        out, err = process.stdout.read(), process.stderr.read()
    return subprocess.CompletedProcess([], process.wait(), out, err)


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("render", "--output", "libvirt"), "not carried out"),
        (("remote",), "not carried out"),
        (("snapshot", "--root", "/tmp"), "not carried out"),
        (("verify", "--junit=/etc/passwd", "--", "vm"), "--junit"),
        (("verify", "--identity=/etc/shadow", "--host=x", "--"), "--"),
        (("list", f"--connect={GONE}"), "not further"),
        (("down", "--log-file=/etc/cron.d/x", "--", "vm"), "the workstation's"),
        (("verify", f"--connect={GONE}", "--", "vm"), "not further"),
    ],
)
def test_a_host_carries_out_nothing_else(argv: tuple[str, ...], why: str) -> None:
    done = remote(Request(argv).line())
    assert (done.returncode, why in done.stderr.decode()) == (2, True)
    assert b"Traceback" not in done.stderr


def test_every_row_is_a_command_and_names_parameters_of_it() -> None:
    import click

    for name, row in REMOTE.items():
        command = _cli.get_command(click.Context(_cli), name)
        if command is None:
            assert name in ("start", "stop", "repair")
            continue
        names = {parameter.name for parameter in command.params}
        assert {*row.refused, *row.streams} <= names, name


def test_without_stdin_there_is_no_request() -> None:
    words = ["sh", "-c", 'exec "$0" -m vfio_kit remote <&-', sys.executable]
    done = subprocess.run(words, capture_output=True, check=False, timeout=60)
    assert done.returncode == 4 and b"sent no request" in done.stderr


def test_what_is_no_request_gets_an_answer() -> None:
    done = remote(b"GET / HTTP/1.1\n")
    assert done.returncode == 4 and b"no request" in done.stderr
    assert vfio_kit("remote", "x").exit_code == 2


def test_colours_are_for_a_terminal_at_the_other_end() -> None:
    for terminals in ((False, True), (True, False)):
        done = remote(Request(("verify", "--", "../x"), terminals=terminals).line())
        assert done.returncode == 2
        assert (b"\x1b[31m" in done.stderr) is terminals[1]


# The lifeline


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """A state directory with a VM that `verify` waits for."""
    folder = VmFolder(tmp_path / "state" / "vm")
    folder.path.mkdir(parents=True)
    folder.create(
        VmRecord(
            name="vm",
            uuid="x",
            network="default",
            mac="52:54:00:00:00:01",
            console_log="/x",
            guest="debian-12",
            user="debian",
            gpus=("0000:01:00.0",),
            address="127.0.0.1",
        )
    )
    folder.begin(StepKind.STATE, {})
    return tmp_path / "state"


def watched(host: GpuHost, state: Path) -> "subprocess.Popen[str]":
    words = ("verify", "vm", "--watch", "1", "--state-dir", state, "--connect", host.uri)
    return started(*words)


def kept_pid(folder: Path) -> dict[str, str]:
    return {"vfio-kit": f'echo $$ > {folder}/pid; exec {sys.executable} -m vfio_kit "$@"'}


def alive(folder: Path) -> bool:
    try:
        os.kill(int((folder / "pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_here_ends_the_command_there_in_good_order(tmp_path: Path, waiting: Path) -> None:
    with GpuHost(tmp_path / "host", tools=kept_pid(tmp_path)) as host:
        client = watched(host, waiting)
        assert client.stdout
        assert client.stdout.readline()  # the first round came through
        client.send_signal(signal.SIGINT)
        _, err = client.communicate(timeout=20)
        assert client.returncode == 130
        assert "was told" in err and err.endswith("interrupted\n")
        until(lambda: not alive(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_workstation_that_is_gone_ends_the_command_there(
    tmp_path: Path, waiting: Path, number: signal.Signals
) -> None:
    with GpuHost(tmp_path / "host", tools=kept_pid(tmp_path)) as host:
        client = watched(host, waiting)
        assert client.stdout
        assert client.stdout.readline()
        assert alive(tmp_path)
        client.send_signal(number)
        client.communicate(timeout=20)
        until(lambda: not alive(tmp_path))


def test_the_host_is_waited_for_until_it_has_put_itself_back(tmp_path: Path) -> None:
    says = f"{HELLO}; echo begun; cat > /dev/null; sleep 0.5; echo put back >&2; exit 130"
    with GpuHost(tmp_path, tools={"vfio-kit": says}) as host:
        client = started("verify", "vm", "--connect", host.uri)
        assert client.stdout and client.stdout.readline() == "begun\n"
        client.send_signal(signal.SIGINT)
        _, err = client.communicate(timeout=20)
    assert (client.returncode, err.splitlines()[-1]) == (130, "put back")


def test_ctrl_c_before_anybody_answered_ends_it_at_once(tmp_path: Path) -> None:
    with GpuHost(tmp_path, tools={"vfio-kit": f"touch {tmp_path}/begun; exec sleep 30"}) as host:
        client = started("verify", "vm", "--connect", host.uri)
        until((tmp_path / "begun").exists)
        client.send_signal(signal.SIGINT)
        _, err = client.communicate(timeout=10)
    assert (client.returncode, err.strip()) == (130, "interrupted")


def test_who_presses_ctrl_c_twice_does_not_wait(tmp_path: Path) -> None:
    with GpuHost(tmp_path, tools={"vfio-kit": f"{HELLO}; echo begun; exec sleep 30"}) as host:
        client = started("verify", "vm", "--connect", host.uri)
        assert client.stdout and client.stdout.readline() == "begun\n"
        client.send_signal(signal.SIGINT)
        assert client.stderr and "was told" in client.stderr.readline()
        begin = time.monotonic()
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=20)
        assert client.returncode == 130
        assert time.monotonic() - begin < 5


# list


def listing(*vms: dict[str, Any]) -> str:
    document = {"schema": "vfio-kit/list/1", "vms": vms}
    return f"{HELLO}; echo {shlex.quote(json.dumps(document))}"


M4000 = {"name": "m4000", "state": "running", "address": "192.0.2.7", "gpus": ["0000:01:00.0"]}
K80 = {
    "name": "k80",
    "state": "shut off",
    "address": None,
    "gpus": ["0000:03:00.0", "0000:04:00.0"],
}


def test_several_hosts_in_one_table_and_none_hides_another(tmp_path: Path) -> None:
    with (
        GpuHost(tmp_path / "a", tools={"vfio-kit": listing(M4000, K80)}) as one,
        GpuHost(tmp_path / "b", {"VFIO_KIT_STATE_DIR": tmp_path / "none"}) as other,
    ):
        uris = (one.uri, GONE, other.uri, "qemu:///system", one.uri)
        words = [word for uri in uris for word in ("--connect", uri)]
        words += ["--state-dir", str(tmp_path / "none")]
        table = vfio_kit("list", *words)
        assert table.exit_code == 4
        assert "127.0.0.1:1 cannot be reached" in table.stderr
        names = [f"root@127.0.0.1:{host.port}" for host in (one, other)]
        assert [line.split() for line in table.stdout.splitlines()] == [
            ["HOST", "NAME", "STATE", "ADDRESS", "GPUS"],
            [names[0], "m4000", "running", "192.0.2.7", "0000:01:00.0"],
            [names[0], "k80", "shut", "off", "-", "0000:03:00.0,", "0000:04:00.0"],
            ["127.0.0.1:1", "?", "no", "answer", "-", "-"],
            [names[1], "-", "no", "VM", "is", "up", "-", "-"],
            ["this", "host", "-", "no", "VM", "is", "up", "-", "-"],
        ]
        document = json.loads(vfio_kit("list", "--json", *words).stdout)
    Draft202012Validator(schema()).validate(document)
    assert document["schema"] == "vfio-kit/list/2"
    assert [(host["uri"], host["vms"]) for host in document["hosts"]] == [
        (one.uri, [M4000, K80]),
        (GONE, None),
        (other.uri, []),
        ("qemu:///system", []),
    ]
    assert [host["error"] is None for host in document["hosts"]] == [True, False, True, True]


def schema() -> dict[str, Any]:
    text = (resources.files("vfio_kit") / "schemas/list-2.schema.json").read_text("utf-8")
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_hosts_are_asked_at_the_same_time(tmp_path: Path) -> None:
    slow = {"vfio-kit": f"sleep 2; {listing(M4000)}"}
    with GpuHost(tmp_path / "a", tools=slow) as one, GpuHost(tmp_path / "b", tools=slow) as other:
        begin = time.monotonic()
        assert vfio_kit("list", "--connect", one.uri, "--connect", other.uri).exit_code == 0
        assert time.monotonic() - begin < 3.9


@pytest.mark.parametrize(
    "says",
    [
        f"{HELLO}; echo no JSON",
        f"{HELLO}; echo '{{\"vms\": [1]}}'",
        f"{HELLO}; exit 5",
        listing({**M4000, "name": 7}),
        listing({**M4000, "gpus": [["x"]]}),
    ],
)
def test_an_answer_that_makes_no_sense_is_that_hosts_alone(tmp_path: Path, says: str) -> None:
    with GpuHost(tmp_path, tools={"vfio-kit": says}) as host:
        result = vfio_kit("list", "--connect", host.uri, "--connect", "qemu:///system")
    assert result.exit_code == 4
    assert f"error: root@127.0.0.1:{host.port}: " in result.stderr


def test_a_vm_with_a_hostile_name_moves_no_cursor(tmp_path: Path) -> None:
    hostile = {**M4000, "name": "\x1b[2Jvm"}
    with GpuHost(tmp_path, tools={"vfio-kit": listing(hostile)}) as host:
        assert "\x1b" not in vfio_kit("list", "--connect", host.uri).stdout
