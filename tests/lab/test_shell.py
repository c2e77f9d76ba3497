"""What the shells complete on a live host: its GPUs for everybody, its VMs for root alone."""

import shlex
from pathlib import Path

import pytest

from vfio_kit import __version__
from vfio_kit.revision import commit_of

from .conftest import LabHost

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]


def completed(host: LabHost, line: str, user: str = "root") -> list[str]:
    """What the shell's script is answered, for the last word of a line."""
    asked = f"_VFIO_KIT_COMPLETE=bash_complete COMP_WORDS={shlex.quote(line)} vfio-kit"
    done = host.run(asked, user=user)
    assert done.stderr == ""
    return [answer.removeprefix("plain,") for answer in done.stdout.splitlines() if answer]


def test_gpus_are_completed_for_everybody(gpuhost: LabHost) -> None:
    for user in ("root", "tester"):
        found = completed(gpuhost, "vfio-kit up m4000 --gpu ", user)
        scanned = gpuhost.run("vfio-kit scan --json", check=False, user=user).stdout
        assert "01:00.0" in found
        assert all(f'"0000:{address}"' in scanned for address in found)


def test_vms_are_completed_for_root_alone(gpuhost: LabHost) -> None:
    state = "/var/lib/vfio-kit"
    gpuhost.run(f"install -d -m 0700 {state} {state}/ghost && touch {state}/ghost/vm.json")
    try:
        assert completed(gpuhost, "vfio-kit down gh") == ["ghost"]
        assert completed(gpuhost, "vfio-kit down gh", "tester") == []
    finally:
        gpuhost.run(f"rm -r {state}/ghost; rmdir --ignore-fail-on-non-empty {state}")


def test_what_the_wheel_brings_is_there(gpuhost: LabHost) -> None:
    gpuhost.run(
        "cd /opt/vfio-kit/share && bash -n bash-completion/completions/vfio-kit && "
        "test -s man/man1/vfio-kit-up.1 && test -s zsh/site-functions/_vfio-kit && "
        "test -s fish/vendor_completions.d/vfio-kit.fish"
    )
    commit = commit_of(Path(__file__).parents[2])
    shown = gpuhost.run("vfio-kit --version").stdout
    assert shown.startswith(f"vfio-kit {__version__}")
    assert commit is None or "(commit " in shown
