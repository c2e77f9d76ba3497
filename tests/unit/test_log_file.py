"""--log-file: what it has in it, who may read it, and what becomes of the work without it."""

import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.unit.http_server import HttpServer
from tests.unit.test_image_command import IMAGE, NAME, SHA512, fetch, images, mirror, vfio_kit
from vfio_kit.cli import _cli, console
from vfio_kit.cli.log_file import LogFile
from vfio_kit.cli.relay import Heard
from vfio_kit.errors import UsageError

__all__ = ["images", "mirror"]
"""Fixtures."""

LONG = {"up", "start", "stop", "down", "repair", "bake", "image fetch", "verify"}
LINE = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warning|error|debug) +(.*)")


def said(log: Path) -> list[tuple[str, str]]:
    """Level and text of every line, each of which has its time."""
    found = []
    for line in log.read_text().splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        found.append((match[1], match[2]))
    return found


def test_it_has_what_stderr_had_and_more(mirror: HttpServer, images: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    mask = os.umask(0)
    try:
        result = fetch(mirror, images, "--sha512", SHA512, "--log-file", str(log))
    finally:
        os.umask(mask)
    assert result.exit_code == 0, result.stderr
    assert log.stat().st_mode & 0o777 == 0o600
    lines = said(log)
    assert lines[0][1].startswith("vfio-kit 0.") and ": " in lines[0][1]
    assert re.fullmatch(r"ended after \d+\.\d s: exit status 0", lines[-1][1])
    texts = [text for _, text in lines]
    for line in result.stderr.splitlines():
        assert line.strip() in texts
    assert any("downloaded" in text for text in texts)
    assert (images / NAME).read_bytes() == IMAGE


def test_it_is_added_to_and_has_errors_with_their_hints(images: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("mine\n")
    log.chmod(0o640)
    for _ in range(2):
        result = vfio_kit("image", "fetch", "debian-12", "--dir", images, "--log-file", log)
        assert result.exit_code == 2
    first, *rest = log.read_text().splitlines()
    assert (first, log.stat().st_mode & 0o777) == ("mine", 0o640)
    log.write_text("\n".join(rest) + "\n")
    lines = said(log)
    assert [text for level, text in lines if level == "error" and text.startswith("error: ")] == [
        "error: nobody signs the checksums of debian-12: without a digest that you trust, nothing "
        "would tell its image from another"
    ] * 2
    assert sum("exit status 2" in text for _, text in lines) == 2


def test_a_program_that_is_run_is_told_of(images: Path, tmp_path: Path) -> None:
    """Here gpgv, on what is no signature."""
    from tests.unit.http_server import File
    from vfio_kit.knowledge.cloud_images import CLOUD_IMAGES

    row, log = CLOUD_IMAGES["ubuntu-22.04"], tmp_path / "log"
    folder = f"/{row.latest_folder}"
    names = ("SHA256SUMS", "SHA256SUMS.gpg")
    with HttpServer(
        {folder + name: File(b"-----BEGIN PGP SIGNATURE-----\n") for name in names}
    ) as m:
        vfio_kit(
            *("image", "fetch", "ubuntu-22.04", "--dir", images, "--mirror", m.url("/")),
            *("--log-file", log),
        )
    details = [text for level, text in said(log) if level == "debug"]
    assert any(text.startswith("ran ") and "gpgv" in text for text in details), said(log)


@pytest.mark.parametrize("where", ["folder", "no/such/folder/log", "/dev/full", "/proc/version"])
def test_one_that_cannot_be_written_is_said_before_anything_is_done(
    mirror: HttpServer, images: Path, tmp_path: Path, where: str
) -> None:
    (tmp_path / "folder").mkdir()
    log = str(tmp_path / where)
    result = fetch(mirror, images, "--sha512", SHA512, "--log-file", log)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "log" in result.stderr and where in result.stderr
    assert mirror.requests == []


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file of this process grows beyond 300 bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_is_a_warning_and_what_is_missing_is_counted(
    tmp_path: Path, small_disk: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    log = LogFile(path, "first")
    console.set_log(log)
    try:
        for number in range(20):
            console.step(f"step {number}", number)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        console.step("room again")
    finally:
        console.set_log(None)
        log.close()
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 22
    (warning,) = (line for line in err if "warning" in line)
    assert warning == f"warning: the log {path} is not complete: File too large"
    last = path.read_text().splitlines()[-2:]
    assert re.search(r"\d+ lines are missing here$", last[0])
    assert last[1].endswith("  room again")


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="No such device"):
        LogFile(tmp_path / "pipe", "first")


def test_of_another_host_the_lines_that_stay_are_kept(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", "first")
    console.set_log(log)
    try:
        heard = Heard()
        for piece in (
            b"\r\x1b[K   0.5 s  work",
            b"ing ...\r\x1b[K   1.0 s  working ...\r\x1b",
            b"[K",
        ):
            heard(piece)
        heard(b"   1.2 s  done\n\x1b[31merror: no\x1b[0m\n  hint: \xff\n")
    finally:
        console.set_log(None)
        log.close()
    assert [text for _, text in said(tmp_path / "log")][1:] == [
        "1.2 s  done",
        "error: no",
        "hint: \N{REPLACEMENT CHARACTER}",
    ]


def test_every_long_command_takes_it() -> None:
    def options(command: click.Command) -> set[str]:
        return {word for parameter in command.params for word in parameter.opts}

    def named(words: str) -> click.Command:
        command: click.Command | None = _cli
        for word in words.split():
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word)
        assert command is not None
        return command

    assert [words for words in LONG if "--log-file" not in options(named(words))] == []
