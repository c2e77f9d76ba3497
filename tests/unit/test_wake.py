"""libvirt is woken while `up` does something else: nobody waits for it, and nobody hears of it."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.libvirt_connection import wake

pytestmark = pytest.mark.edge

WAKE = "import sys; from vfio_kit.apply.libvirt_connection import wake; wake(sys.argv[1])"


def uri(socket_file: Path) -> str:
    return f"qemu+unix:///system?socket={socket_file}"


def test_a_connection_that_counts_is_not_disturbed() -> None:
    wake("test:///default")
    with Hypervisor("test:///default") as hypervisor:
        assert [domain.name for domain in hypervisor.domains()] == ["test"]


@pytest.mark.parametrize("there", ["none", "mute"])
def test_of_a_libvirtd_that_fails_or_says_nothing_the_program_hears_nothing(
    tmp_path: Path, there: str
) -> None:
    """Its end is not kept from it either."""
    file = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        if there == "mute":
            server.bind(str(file))
            server.listen()
        words = [sys.executable, "-c", f"{WAKE}; import time; time.sleep(0.5)", uri(file)]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
