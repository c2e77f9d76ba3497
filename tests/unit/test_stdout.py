"""stdout has the result and nothing else, of every command that there is; stderr may be anything.

A command that is new fails here until it has a row.
"""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pyte
import pytest

from tests.machines import m4000_isolated, write_machine
from tests.unit.http_server import HttpServer
from tests.unit.test_image_command import NAME, SHA512, images, mirror
from vfio_kit.cli import _HIDDEN, _cli

__all__ = ["images", "mirror"]
"""Fixtures."""


@dataclass(frozen=True)
class Row:
    """argv, where {root}, {images}, {mirror}, {tmp} stand for what the test has; statuses: the exit
    statuses that may be, for there may be no libvirt here; json: whether stdout is a document."""

    argv: str
    statuses: tuple[int, ...] = (0,)
    json: bool = False
    stdout: Callable[[str], bool] = lambda text: bool(text.strip())


def nothing(text: str) -> bool:
    return text == ""


FETCH = f"image fetch debian-12 --dir {{images}} --mirror {{mirror}} --sha512 {SHA512}"
VM = "--state-dir {tmp}/state"
NO_LIBVIRT = (2, 3, 4, 5)

ROWS = {
    "scan": [Row("scan --root {root}"), Row("scan --json --root {root}", json=True)],
    "explain": [Row("explain VK101"), Row("explain --json", json=True)],
    "advise": [
        Row("advise --gpu 01:00.0 --root {root}"),
        Row("advise --json --root {root}", json=True),
    ],
    "snapshot": [Row("snapshot -o {tmp}/s.tar.gz --root {root}", stdout=nothing)],
    "plan": [
        Row("plan --gpu 01:00.0 --root {root}"),
        Row("plan --json --gpu 01:00.0 --root {root}", json=True),
    ],
    "render": [
        Row("render --gpu 01:00.0 --output libvirt -o {tmp}/out --root {root}", stdout=nothing)
    ],
    "image fetch": [
        Row(FETCH, stdout=lambda text: text.endswith(f"/{NAME}\n") and text.count("\n") == 1),
        Row(f"{FETCH} --json", json=True),
    ],
    "image list": [
        Row(f"image list --dir {{images}} {VM}"),
        Row(f"image list --json --dir {{images}} {VM}", json=True),
    ],
    "image rm": [Row(f"image rm none --dir {{images}} {VM}", (2,), stdout=nothing)],
    "bake": [Row(f"bake {{tmp}}/out.qcow2 {VM} --image {{tmp}}/no", NO_LIBVIRT, stdout=nothing)],
    "up": [Row(f"up vm --gpu 7f:1f.7 {VM}", NO_LIBVIRT, stdout=nothing)],
    "verify": [
        Row("verify --host 127.0.0.1 --port 1 --ssh-config /dev/null", (6,)),
        Row("verify --json --host 127.0.0.1 --port 1 --ssh-config /dev/null", (6,), json=True),
    ],
    "list": [Row(f"list {VM}"), Row(f"list --json {VM}", json=True)],
    "stop": [Row(f"stop vm {VM}", NO_LIBVIRT, stdout=nothing)],
    "start": [Row(f"start vm {VM}", NO_LIBVIRT, stdout=nothing)],
    "down": [Row(f"down vm {VM}", NO_LIBVIRT, stdout=nothing)],
    "repair": [
        Row(f"repair --check {VM}", (0, 3)),
        Row(f"repair --check --json {VM}", (0, 3), json=True),
    ],
    "completion": [Row("completion bash")],
}


def leaves(command: click.Command, words: str = "") -> Iterator[str]:
    """Every command that can be called, by its words."""
    if not isinstance(command, click.Group):
        yield words
        return
    ctx = click.Context(command)
    for name in command.list_commands(ctx):
        below = command.get_command(ctx, name)
        if below is not None and name not in _HIDDEN:
            yield from leaves(below, f"{words} {name}".strip())


def test_there_is_a_row_for_every_command() -> None:
    assert sorted(leaves(_cli)) == sorted(ROWS)


@pytest.fixture
def words(tmp_path: Path, images: Path, mirror: HttpServer) -> Callable[[Row], list[str]]:
    places = {
        "root": write_machine(tmp_path / "tree", m4000_isolated()),
        "images": images,
        "mirror": mirror.url("/debian-cdimage"),
        "tmp": tmp_path,
    }
    return lambda row: row.argv.format(**places).split()


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.argv.split(" -")[0]) for rows in ROWS.values() for row in rows],
)
def test_stdout_has_the_result_and_nothing_else(
    row: Row, words: Callable[[Row], list[str]]
) -> None:
    from click.testing import CliRunner

    done = CliRunner().invoke(_cli, words(row), prog_name="vfio-kit")
    assert done.exit_code in row.statuses, done.stderr
    if row.json:
        assert json.loads(done.stdout)["schema"].startswith("vfio-kit/")
    else:
        assert row.stdout(done.stdout), done.stdout
    assert "\r" not in done.output and "\x1b" not in done.output


# Streams that are not there


@pytest.mark.parametrize("redirection", ["2>&-", ">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_stream_that_is_closed_or_full_does_not_break_the_work(
    redirection: str, words: Callable[[Row], list[str]], images: Path, tmp_path: Path
) -> None:
    fetch = [sys.executable, "-m", "vfio_kit", *words(Row(FETCH)), "--log-file", f"{tmp_path}/log"]
    shell = ["sh", "-c", f'"$@" {redirection}', "sh", *fetch]
    done = subprocess.run(shell, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert (images / NAME).exists()
    if redirection.startswith("2>"):
        assert done.stdout == f"{images / NAME}\n"
    assert "exit status 0" in (tmp_path / "log").read_text()


def test_nobody_reads_what_is_said(words: Callable[[Row], list[str]], images: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "vfio_kit", *words(Row(FETCH))],
        check=False,
        stdout=subprocess.PIPE,
        stderr=write,
        text=True,
        timeout=60,
    )
    os.close(write)
    assert (done.returncode, done.stdout) == (0, f"{images / NAME}\n")


def test_what_draws_and_what_logs_is_paid_for_by_who_needs_it(
    words: Callable[[Row], list[str]], tmp_path: Path
) -> None:
    code = "import sys\ntry:\n import vfio_kit.cli as c; c.main()\nfinally: print(*sys.modules)"
    wanted = {"vfio_kit.cli.live_line", "vfio_kit.cli.log_file", "logging"}

    def loaded(row: str) -> set[str]:
        argv = [sys.executable, "-c", code, *words(Row(row))]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
        return wanted & set(done.stdout.split())

    assert loaded("scan --root {root}") == set()
    assert loaded("plan --gpu 01:00.0 --root {root}") == set()
    assert loaded(f"{FETCH} --log-file {{tmp}}/log") == wanted


def test_an_interrupt_says_what_is_kept_and_the_log_that_it_was_one(
    words: Callable[[Row], list[str]], mirror: HttpServer, images: Path, tmp_path: Path
) -> None:
    image = max(mirror.files.values(), key=lambda file: len(file.data))
    image.hang = threading.Event()
    process = subprocess.Popen(
        [sys.executable, "-m", "vfio_kit", *words(Row(FETCH)), "--log-file", f"{tmp_path}/log"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 20
    while not any(part.stat().st_size for part in images.glob(".*.part")):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.terminate()
    out, err = process.communicate(timeout=20)
    image.hang.set()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert "0 MiB are kept: the same command goes on from there" in err
    assert (tmp_path / "log").read_text().rstrip().endswith("interrupted")


# A terminal


def shown(argv: list[str], columns: int, **environ: str) -> tuple[int, list[str], bytes]:
    """Exit status, the lines of the screen and the bytes that drew them: stdout and stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "xterm", **environ}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-m", "vfio_kit", *argv],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
        start_new_session=True,
    )
    os.close(theirs)
    data = b""
    try:
        while more := os.read(ours, 4096):
            data += more
    except OSError:  # the other end was closed: EIO
        pass
    os.close(ours)
    screen = pyte.Screen(columns, 40)
    pyte.ByteStream(screen).feed(data)
    lines = [line.rstrip() for line in screen.display]
    return process.wait(60), [line for line in lines if line], data


@pytest.fixture
def slow(mirror: HttpServer) -> HttpServer:
    """Half of the image comes at once, the rest after nearly a second."""
    image = max(mirror.files.values(), key=lambda file: len(file.data))
    image.hang = threading.Event()
    timer = threading.Timer(0.9, image.hang.set)
    timer.daemon = True
    timer.start()
    return mirror


@pytest.mark.parametrize("columns", [120, 40])
def test_on_a_terminal_the_line_moves_and_leaves_nothing_behind(
    words: Callable[[Row], list[str]], slow: HttpServer, columns: int
) -> None:
    status, lines, data = shown(words(Row(FETCH)), columns)
    assert status == 0
    drawn = [piece for piece in data.decode().split("\r\x1b[K") if "downloading" in piece]
    assert len(drawn) >= 2
    assert all(len(piece) < columns for piece in drawn)
    assert not any("downloading" in line for line in lines)
    assert lines[0] == "   0.0 s  checksums" or lines[0].endswith(" s  checksums")
    assert "".join(lines).endswith(NAME)


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}])
def test_a_lesser_terminal_gets_what_it_can_draw(
    words: Callable[[Row], list[str]], slow: HttpServer, environ: dict[str, str]
) -> None:
    environ = {"PYTHONCOERCECLOCALE": "0", **environ}
    status, lines, data = shown(words(Row(FETCH)), 100, **environ)
    assert status == 0 and any("verified: SHA512" in line for line in lines)
    if environ.get("TERM") == "dumb":
        assert b"\x1b" not in data and data.count(b"\r") == data.count(b"\r\n")
    else:
        assert data.isascii() and b"downloading ..." in data
