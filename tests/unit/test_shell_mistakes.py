"""Mistakes on the command line: exit status 2, one look, the value named, and what it may be."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.machines import m4000_isolated, write_machine
from vfio_kit.cli import _cli
from vfio_kit.errors import did_you_mean


def vfio_kit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(_cli, [str(word) for word in arguments], prog_name="vfio-kit")


# What was typed -> the error, and its first hint.
TYPED: dict[str, tuple[str, str]] = {
    "plam": ("no command 'plam'", "did you mean plan?"),
    "destroy": ("no command 'destroy'", "vfio-kit --help lists them"),
    "image fetsh debian-12": ("no command 'fetsh'", "did you mean fetch?"),
    "--verison": ("no such option --verison", "did you mean --version?"),
    "plan --gpus 01:00.0": ("no such option --gpus", "did you mean --gpu or --cpus or --guest?"),
    "scan --zzz": ("no such option --zzz", "vfio-kit scan --help says what it takes"),
    "plan --gpu": (
        "option '--gpu' requires an argument",
        "vfio-kit plan --help says what it takes",
    ),
    "plan --driver 469": (
        "invalid value for '--driver': '469' is not one of '470', '535', '580', '580-open', "
        "'auto', 'none'",
        "vfio-kit plan --help says what it takes",
    ),
    "plan --cpus four": (
        "invalid value for '--cpus': 'four' is not a valid integer",
        "vfio-kit plan --help says what it takes",
    ),
    "down": ("missing argument 'NAME'", "vfio-kit down [OPTIONS] NAME"),
    "completion": (
        "missing argument 'SHELL'. Choose from: bash, zsh, fish",
        "vfio-kit completion [OPTIONS] SHELL",
    ),
    "scan gpu": (
        "got unexpected extra argument (gpu)",
        "vfio-kit scan --help says what it takes",
    ),
    "scan --gpu 01:00": (
        "'01:00' is not a PCI address",
        "write it as lspci does: 01:00.0, or 0000:01:00.0 with its domain",
    ),
    "verify": (
        "nobody to verify: give the NAME of a VM, --host ADDR or --local",
        "vfio-kit verify --help says what it takes",
    ),
    "explain VK10I": ("no finding has the code 'VK10I'", "did you mean VK101, VK102"),
    "image fetch ubuntu-22": ("no guest system 'ubuntu-22'", "did you mean ubuntu-22.04?"),
    "plan --gpu 01:00.0 --guest debian12": (
        "guest = 'debian12': is not a guest system that is known: ubuntu-22.04, debian-12",
        "did you mean debian-12?",
    ),
    "plan --gpu 01:00.1": (
        "not a GPU: 0000:01:00.1",
        "give the address of a display controller (class 03xx); GPUs here: 0000:00:02.0 ",
    ),
    "advise --gpu 09:00.0": ("no PCI device 0000:09:00.0 on this host", "GPUs here: 0000:00:02.0"),
}


@pytest.mark.parametrize("typed", TYPED)
def test_a_mistake_is_named_and_answered(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VFIO_KIT_ROOT", str(write_machine(tmp_path, m4000_isolated())))
    result = vfio_kit(*typed.split())
    error, hint = TYPED[typed]
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {error}")
    assert result.stderr.splitlines()[1].startswith(f"  hint: {hint}")


def test_a_mistake_takes_a_line_and_its_hints_two_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VFIO_KIT_ROOT", str(write_machine(tmp_path, m4000_isolated())))
    for typed in TYPED:
        lines = vfio_kit(*typed.split()).stderr.splitlines()
        assert 2 <= len(lines) <= 3
        assert all(line.startswith("  hint: ") and not line.endswith(".") for line in lines[1:])


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root is told so first")
@pytest.mark.parametrize("command", ["down", "start", "stop", "verify"])
def test_a_mistyped_vm_is_answered_with_those_that_are_like_it(
    tmp_path: Path, command: str
) -> None:
    for name in ("m4000", "k80"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vm.json").touch()
    result = vfio_kit(*command.split(), "m400", "--state-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: no VM 'm400' here\n"
        "  hint: did you mean m4000?\n"
        "  hint: vfio-kit list shows those there are\n"
    )


def test_words_that_are_not_alike_are_not_meant() -> None:
    assert did_you_mean("m400", ["m4000", "k80"]) == "did you mean m4000?\n"
    assert did_you_mean("xyz", ["m4000", "k80"]) == ""
    assert did_you_mean("m400", []) == ""


def test_a_group_without_a_command_says_what_there_is() -> None:
    result = vfio_kit("image")
    assert "fetch" in result.output
    assert "error: " not in result.output
