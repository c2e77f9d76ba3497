"""`vfio-kit verify`: whom it asks, what it prints where, how often, and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paramiko
import pytest
from click.testing import CliRunner, Result

from tests.unit.fixtures import healthy
from tests.unit.ssh_server import Behaviour, SshServer, answer, break_off
from tests.unit.test_local import runs
from tests.unit.test_verify_targets import RECORD
from tests.unit.tools import accepts
from tests.unit.verified import NOT_LOADED
from vfio_kit.apply.journal import VmFolder
from vfio_kit.cli import _cli
from vfio_kit.cli.verify_command import exit_status
from vfio_kit.guest.probe import COMMANDS
from vfio_kit.knowledge.rungs import RUNGS
from vfio_kit.model.health import CommandResult, Fitness

Results = Mapping[str, CommandResult]


def vfio_kit(*arguments: str | Path, stdin: str = "") -> Result:
    words = [str(word) for word in arguments]
    return CliRunner().invoke(_cli, words, prog_name="vfio-kit", input=stdin)


def answers(results: Results) -> dict[str, Behaviour]:
    """A guest that always gives these."""
    return {COMMANDS[code]: answer(result) for code, result in results.items()}


class Rounds:
    """A guest that gives other results in each round, the last ones for ever.

    None in the place of results: the connection breaks at the first command. `transports` are
    those it was asked over.
    """

    def __init__(self, *rounds: Results | None) -> None:
        self._rounds = rounds
        self._asked = dict.fromkeys(COMMANDS, 0)
        self.transports: list[paramiko.Transport] = []

    def commands(self) -> dict[str, Behaviour]:
        return {COMMANDS[code]: self._behaviour(code) for code in COMMANDS}

    def _behaviour(self, code: str) -> Behaviour:
        first = next(iter(COMMANDS))
        rounds = [each for each in self._rounds if each is not None or code == first]

        def behave(channel: paramiko.Channel) -> None:
            if channel.get_transport() not in self.transports:
                self.transports.append(channel.get_transport())
            results = rounds[min(self._asked[code], len(rounds) - 1)]
            self._asked[code] += 1
            if results is None:
                break_off(channel)
            else:
                answer(results[code])(channel)

        return behave


SOUND = healthy()
BROKEN = healthy(nvidia_smi=NOT_LOADED)


class Rack:
    """Guests by name, each an SSH server, and the ssh_config that leads to them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: list[SshServer] = []
        self.config = folder / "ssh_config"
        self.config.touch()

    def guest(self, name: str, commands: Mapping[str, Behaviour]) -> None:
        folder = self._folder / name
        folder.mkdir()
        server = SshServer(folder, commands)
        target = server.target()
        with self.config.open("a") as config:
            config.write(
                f"Host {name}\n  HostName 127.0.0.1\n  Port {server.port}\n  User root\n"
                f"  IdentityFile {target.identity}\n  UserKnownHostsFile {target.known_hosts}\n"
            )
        server.__enter__()
        self._servers.append(server)

    def nobody(self, name: str) -> None:
        """A guest that is switched off."""
        with self.config.open("a") as config:
            config.write(f"Host {name}\n  HostName 127.0.0.1\n  Port 1\n")

    def verify(self, *arguments: str | Path, hosts: str = "") -> Result:
        named = [word for host in hosts.split() for word in ("--host", host)]
        return vfio_kit("verify", "--ssh-config", self.config, *named, *arguments)

    def close(self) -> None:
        for server in self._servers:
            server.__exit__(None, None, None)


@pytest.fixture
def rack(tmp_path: Path) -> Any:
    rack = Rack(tmp_path)
    yield rack
    rack.close()


def document(result: Result) -> Any:
    """The JSON on stdout; that there is nothing else is part of the contract."""
    return json.loads(result.stdout)


# One guest


def test_a_healthy_guest(rack: Rack) -> None:
    rack.guest("gpu", answers(SOUND))
    result = rack.verify(hosts="gpu")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "ok       ssh           the host key is the known one"
    assert lines[-1].startswith("gpu: healthy, ")


def test_an_unhealthy_guest(rack: Rack) -> None:
    rack.guest("gpu", answers(BROKEN))
    result = rack.verify(hosts="gpu")
    assert result.exit_code == 3
    assert "failed   nvidia-smi    driver-not-loaded: " in result.stdout
    assert "gpu: not healthy: nvidia-smi (driver-not-loaded), " in result.stdout


def test_a_guest_that_cannot_be_reached_was_not_checked(rack: Rack) -> None:
    rack.nobody("gpu")
    result = rack.verify(hosts="gpu")
    assert result.exit_code == 6
    assert "gpu: not checked: " in result.stdout
    assert "not healthy" not in result.stdout
    found = document(rack.verify("--json", hosts="gpu"))
    assert (found["healthy"], found["hosts"][0]["healthy"]) == (None, None)
    assert "cannot connect" in found["hosts"][0]["checks"][0]["evidence"]


def test_a_guest_with_another_key_is_not_spoken_to(rack: Rack, tmp_path: Path) -> None:
    rack.guest("gpu", answers(SOUND))
    (tmp_path / "gpu/known_hosts").write_text("")
    result = rack.verify(hosts="gpu")
    assert result.exit_code == 6
    assert "host key" in result.stdout


def test_a_guest_that_breaks_off_was_not_checked(rack: Rack) -> None:
    rack.guest("gpu", Rounds(None).commands())
    result = rack.verify(hosts="gpu")
    assert result.exit_code == 6
    assert "gpu: not checked: " in result.stdout


def test_the_json(rack: Rack) -> None:
    rack.guest("gpu", answers(SOUND))
    result = rack.verify("--json", hosts="gpu")
    found = document(result)
    assert (result.exit_code, found["schema"], found["healthy"]) == (0, "vfio-kit/verify/2", True)
    assert [check["code"] for check in found["hosts"][0]["checks"]] == [r.code for r in RUNGS]


def test_a_vm_that_is_not_up(tmp_path: Path) -> None:
    VmFolder(tmp_path / "state/vm").create(RECORD)
    result = vfio_kit("verify", "vm", "--state-dir", tmp_path / "state")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'vm' is not up" in result.stderr


# Several


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ((Fitness.FIT,), 0),
        ((Fitness.FIT, Fitness.FIT), 0),
        ((Fitness.FIT, Fitness.UNFIT), 3),
        ((Fitness.FIT, Fitness.NOT_CHECKED), 6),
        ((Fitness.UNFIT, Fitness.NOT_CHECKED), 3),
        ((Fitness.NOT_CHECKED,), 6),
    ],
)
def test_the_exit_status_of_several(verdicts: tuple[Fitness, ...], status: int) -> None:
    assert exit_status(verdicts) == status


def test_several_are_told_line_by_line_and_the_bad_ones_in_detail(rack: Rack) -> None:
    rack.guest("good", answers(SOUND))
    rack.guest("bad", answers(BROKEN))
    rack.nobody("off")
    result = rack.verify(hosts="good bad off")
    assert result.exit_code == 3
    first, details = result.stdout.split("\n\n", 1)
    assert sorted(line.split()[0] for line in first.splitlines()) == ["bad", "good", "off"]
    assert details.index("\noff:") > details.index("bad:")
    assert "good:" not in details
    last = result.stdout.splitlines()[-1]
    assert last.startswith("3 guests: 1 healthy, 1 not healthy, 1 not checked; ")


def test_documents_have_them_in_the_order_asked_for(rack: Rack, tmp_path: Path) -> None:
    def slowly(channel: paramiko.Channel) -> None:
        time.sleep(0.3)
        answer(SOUND["pci"])(channel)

    rack.guest("slow", {**answers(SOUND), COMMANDS["pci"]: slowly})
    rack.guest("quick", answers(SOUND))
    file = tmp_path / "j.xml"
    found = document(rack.verify("--json", "--junit", file, hosts="slow quick"))
    assert [host["host"] for host in found["hosts"]] == ["slow", "quick"]
    assert file.read_text().index('name="slow"') < file.read_text().index('name="quick"')


def test_they_are_asked_at_the_same_time(rack: Rack) -> None:
    def slowly(channel: paramiko.Channel) -> None:
        time.sleep(1.0)
        answer(SOUND["pci"])(channel)

    names = [f"gpu-{number}" for number in range(8)]
    for name in names:
        rack.guest(name, {**answers(SOUND), COMMANDS["pci"]: slowly})
    begin = time.monotonic()
    found = document(rack.verify("--json", hosts=" ".join(names)))
    assert found["healthy"] is True
    assert time.monotonic() - begin < 8  # one after the other could not


def test_a_file_of_hosts_and_the_same_guest_once(rack: Rack, tmp_path: Path) -> None:
    rack.guest("gpu", answers(SOUND))
    file = tmp_path / "hosts"
    file.write_text("# the rack\ngpu\n")
    found = document(rack.verify("--json", "--hosts", file, hosts="gpu"))
    assert [host["host"] for host in found["hosts"]] == ["gpu"]


def test_hosts_from_stdin(rack: Rack) -> None:
    rack.guest("gpu", answers(SOUND))
    result = vfio_kit(
        *("verify", "--json", "--ssh-config", rack.config, "--hosts", "-"), stdin="gpu\n"
    )
    assert document(result)["healthy"] is True


# What is expected


def test_what_is_expected_and_holds(rack: Rack) -> None:
    rack.guest("gpu", answers(SOUND))
    result = rack.verify("--expect", "gpu_count=1,cc=5.2", "--expect", "driver=470", hosts="gpu")
    assert result.exit_code == 0
    assert "ok       expect        gpu_count=1, cc=5.2, driver=470\n" in result.stdout


def test_what_is_expected_and_is_not_so(rack: Rack) -> None:
    rack.guest("gpu", answers(SOUND))
    result = rack.verify("--expect", "gpu_count=2", hosts="gpu")
    assert result.exit_code == 3
    assert "failed   expect        not-as-expected: gpu_count=2: found 1\n" in result.stdout


# This machine


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of PATH: programs there are this machine's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_this_machine_is_verified_without_ssh(tools: Path) -> None:
    smi = tools / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    smi.chmod(0o755)
    result = vfio_kit("verify", "--local", "--json")
    (host,) = document(result)["hosts"]
    checks = {check["code"]: check for check in host["checks"]}
    assert (checks["ssh"]["status"], checks["ssh"]["evidence"]) == (
        "skipped",
        "on this machine, without SSH",
    )
    assert (checks["nvidia-smi"]["status"], checks["nvidia-smi"]["cause"]) == (
        "failed",
        "no-devices",
    )
    assert (result.exit_code, host["healthy"]) == (3, False)


def test_the_burn_runs_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine, with a libcuda that has no GPU behind it."""
    source = Path(__file__).with_name("libcuda.c")
    accepts("gcc", "-O2", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source, "-lm")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    monkeypatch.setenv("CUDA_FLIP", "fill")
    result = vfio_kit("verify", "--local", "--json", "--burn", "1")
    assert "every GPU will compute for 1 s" in result.stderr
    checks = document(result)["hosts"][0]["checks"]
    (found,) = [check for check in checks if check["code"] == "burn"]
    assert found["status"] == "failed"
    assert "Stand-in 0" in found["evidence"]


# Into files, and to stdout


def test_files_are_readable_by_all_and_replaced_whole(rack: Rack, tmp_path: Path) -> None:
    rack.guest("gpu", answers(SOUND))
    junit, metrics = tmp_path / "j.xml", tmp_path / "m.prom"
    metrics.write_text("old")
    inode = metrics.stat().st_ino
    result = rack.verify("--junit", junit, "--prometheus", metrics, hosts="gpu")
    assert result.exit_code == 0
    assert result.stdout.endswith(" s\n")
    assert junit.stat().st_mode & 0o777 == metrics.stat().st_mode & 0o777 == 0o644
    assert metrics.stat().st_ino != inode
    assert 'vfio_kit_verify_healthy{host="gpu"} 1' in metrics.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "gpu",
        "j.xml",
        "m.prom",
        "ssh_config",
    ]


@pytest.mark.parametrize(
    ("option", "begin"), [("--junit", "<?xml "), ("--prometheus", "# HELP vfio_kit_")]
)
def test_a_document_on_stdout_is_alone_there(rack: Rack, option: str, begin: str) -> None:
    rack.guest("gpu", answers(SOUND))
    result = rack.verify(option, "-", hosts="gpu")
    assert result.exit_code == 0
    assert result.stdout.startswith(begin)
    assert "gpu: healthy" not in result.stdout


def test_a_file_that_cannot_be_written_is_told(rack: Rack, tmp_path: Path) -> None:
    rack.guest("gpu", answers(SOUND))
    result = rack.verify("--prometheus", tmp_path / "none/m.prom", hosts="gpu")
    assert result.exit_code == 4
    assert f"cannot write {tmp_path / 'none/m.prom'}" in result.stderr


# Again and again


def lines_of(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_until_healthy_asks_again_over_the_same_connection(rack: Rack) -> None:
    guest = Rounds(BROKEN, BROKEN, SOUND)
    rack.guest("gpu", guest.commands())
    result = rack.verify("--json", "--until", "healthy", "--watch", "1", hosts="gpu")
    assert result.exit_code == 0
    assert [found["healthy"] for found in lines_of(result)] == [False, False, True]
    assert len(guest.transports) == 1


def test_after_the_first_round_people_are_told_what_changed(rack: Rack) -> None:
    guest = Rounds(BROKEN, BROKEN, SOUND)
    rack.guest("gpu", guest.commands())
    result = rack.verify("--until", "healthy", "--watch", "1", hosts="gpu")
    first, _, later = result.stdout.partition("gpu: not healthy: nvidia-smi")
    assert first.startswith("ok       ssh ")
    changes = later.splitlines()[1:]
    assert changes[0].endswith("  gpu  nvidia-smi: failed → ok")
    assert changes[-1].endswith("  gpu  not healthy → healthy")


def test_a_connection_that_broke_is_made_again(rack: Rack) -> None:
    guest = Rounds(BROKEN, None, SOUND)
    rack.guest("gpu", guest.commands())
    result = rack.verify("--json", "--until", "healthy", "--watch", "1", hosts="gpu")
    assert result.exit_code == 0
    # Within the round in which it broke.
    assert [found["healthy"] for found in lines_of(result)] == [False, True]
    assert len(guest.transports) == 2


def test_files_are_written_anew_each_round(rack: Rack, tmp_path: Path) -> None:
    guest = Rounds(BROKEN, SOUND)
    rack.guest("gpu", guest.commands())
    file = tmp_path / "m.prom"
    result = rack.verify("--until", "healthy", "--watch", "1", "--prometheus", file, hosts="gpu")
    assert result.exit_code == 0
    assert 'vfio_kit_verify_healthy{host="gpu"} 1' in file.read_text()


def test_patience_ends_with_the_verdict_of_the_last_round(rack: Rack) -> None:
    rack.guest("gpu", answers(BROKEN))
    begin = time.monotonic()
    result = rack.verify("--json", "--until", "healthy", "--for", "1", hosts="gpu")
    assert result.exit_code == 3
    assert 1 <= time.monotonic() - begin < 10
    assert len(lines_of(result)) == 2  # at once, and when the time was over


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_ends_at_once(rack: Rack, number: signal.Signals) -> None:
    rack.guest("gpu", answers(SOUND))
    command = ("verify", "--ssh-config", rack.config, "--host", "gpu", "--json", "--watch")
    with subprocess.Popen(
        [sys.executable, "-m", "vfio_kit", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["healthy"] is True
        process.send_signal(number)
        begin = time.monotonic()
        _, stderr = process.communicate(timeout=20)
    assert time.monotonic() - begin < 5
    assert (process.returncode, stderr.strip()) == (130, "interrupted")


def test_ctrl_c_leaves_no_program_of_ours_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-m", "vfio_kit", "verify", "--local"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    ) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 130
    assert not runs(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("more", [(), ("--json",), ("--watch", "1", "--json")])
def test_a_reader_that_went_away_takes_neither_verdict_nor_files(
    rack: Rack, tmp_path: Path, more: tuple[str, ...]
) -> None:
    """grep -q ends with what it looks for; with pipefail our own exit status counts."""
    rack.guest("gpu", answers(BROKEN))
    metrics = tmp_path / "m.prom"
    command = ("verify", "--ssh-config", rack.config, "--host", "gpu", "--prometheus", metrics)
    with subprocess.Popen(
        [sys.executable, "-m", "vfio_kit", *map(str, command), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.wait(timeout=60) == 3
        assert "error" not in process.stderr.read()
    assert 'vfio_kit_verify_healthy{host="gpu"} 0' in metrics.read_text()


# What cannot be meant


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nobody to verify: give the NAME of a VM, --host ADDR or --local"),
        (("../vm",), "'../vm' is no name for a VM"),
        (("ghost",), "no VM 'ghost' here"),
        (("vm", "--user", "root"), "such options are for --host"),
        (("--host", "127.0.0.1", "--port", "0"), "0 is not in the range"),
        (("--host", "127.0.0.1", "--timeout", "0"), "0 is not in the range"),
        (("--host", "-x"), "'-x' is no name of a host or user"),
        (("--local", "--burn", "0"), "0 is not in the range"),
        (("--local", "--expect", "cc=red"), "'red' is no value for cc"),
        (("--local", "--for", "5"), "--for says how long --until healthy waits"),
        (("--local", "--until", "ready"), "'ready' is not 'healthy'"),
        (("--local", "--json", "--junit", "-"), "all write to stdout: one"),
        (("--local", "--junit", "-", "--prometheus", "-"), "all write to stdout: one"),
        (("--local", "--watch", "--junit", "-"), "--watch writes documents into files"),
        (("--local", "--junit", "/dev/null"), "/dev/null is no file"),
        (("--local", "--prometheus", "/"), "/ is no file"),
        (("--local", "--junit", "/" + "x" * 300), "cannot be written: File name too long"),
        (
            ("--local", "--junit", "/tmp/./gone", "--prometheus", "/tmp/gone"),
            "name the same file",
        ),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = vfio_kit("verify", *arguments, "--state-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())


def test_a_link_to_itself_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    result = vfio_kit("verify", "--local", "--junit", tmp_path / "loop")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "leads to itself" in result.stderr


def test_lists_without_an_end_are_not_read_to_it(tmp_path: Path) -> None:
    result = vfio_kit("verify", "--hosts", "/dev/zero")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "longer than" in result.stderr
    result = vfio_kit("verify", "--host", "127.0.0.1:1", "--known-hosts", "/dev/zero")
    assert result.exit_code == 6


def test_a_state_folder_that_is_none(tmp_path: Path) -> None:
    result = vfio_kit("verify", "vm", "--state-dir", "/dev/null")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "cannot read /dev/null/vm/" in result.stderr


def test_what_was_found_is_told_where_a_file_cannot_be_written(rack: Rack, tmp_path: Path) -> None:
    rack.guest("gpu", answers(SOUND))
    metrics = tmp_path / "m.prom"
    # No name is left for the file that is written first, in the place of which it is put.
    junit = tmp_path / ("j" * 252)
    result = rack.verify("--junit", junit, "--prometheus", metrics, hosts="gpu")
    assert result.exit_code == 4
    assert result.stdout.endswith(" s\n")
    assert "cannot write" in result.stderr
    assert metrics.exists()


def test_a_file_without_hosts(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("# nobody\n")
    result = vfio_kit("verify", "--hosts", tmp_path / "hosts")
    assert result.exit_code == 2
    assert "names no host" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--watch", "1", "--host", "gpu"],
        ["--watch=1", "--host", "gpu"],
        ["--host", "gpu", "--watch", "1"],
    ],
)
def test_watch_takes_a_number_or_none(
    rack: Rack, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rack.guest("gpu", answers(SOUND))
    assert rack.verify("--until", "healthy", *words).exit_code == 0


def test_watch_before_a_name_takes_none(tmp_path: Path) -> None:
    result = vfio_kit("verify", "--watch", "ghost", "--state-dir", tmp_path)
    assert (result.exit_code, "no VM 'ghost' here" in result.stderr) == (2, True)


def test_nothing_is_loaded_that_help_does_not_need() -> None:
    code = (
        "import sys; from vfio_kit.cli import verify_command; "
        "print([m for m in ('paramiko', 'jinja2', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
