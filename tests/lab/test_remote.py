"""--connect for real: this machine is the workstation, the virtual host its GPU host.

OpenSSH's client and server, Debian's sudo, and the vfio-kit that is installed there.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import machine
from .conftest import LabHost
from .hoststate import SNAPSHOT, differences
from .paths import key_file

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]

GPU = "0000:01:00.0"
SPEC = f"""name = "far"
gpus = ["{GPU}"]
guest = "debian-12"
image = "/var/lib/libvirt/images/guest.qcow2"
driver = "none"
cpus = 1
memory = 1024
hugepages = "2M"
[boot]
kernel = "/var/lib/libvirt/images/guest-vmlinuz"
initrd = "/var/lib/libvirt/images/guest-initrd"
"""
SUDOERS = "/etc/sudoers.d/vfio-kit"


@pytest.fixture
def known_hosts(gpuhost: LabHost, tmp_path: Path) -> Path:
    """With the host's key, read over a way that is trusted: it is made anew for each boot."""
    public = gpuhost.run("cat /etc/ssh/ssh_host_ed25519_key.pub").stdout
    file = tmp_path / "known_hosts"
    file.write_text(f"[127.0.0.1]:{machine.state().port} {public}")
    return file


def uri(known_hosts: Path, user: str = "root") -> str:
    return (
        f"qemu+ssh://{user}@127.0.0.1:{machine.state().port}/system"
        f"?keyfile={key_file()}&known_hosts={known_hosts}"
    )


@pytest.fixture
def root(known_hosts: Path) -> str:
    return uri(known_hosts)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """On the workstation alone."""
    file = tmp_path / "far.toml"
    file.write_text(SPEC)
    return file


def started(*words: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "vfio_kit", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def typed(*words: str | Path, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
    """A command as the operator types it on the workstation."""
    process = started(*words)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def without_time(document: str) -> object:
    """What may differ between two looks at one host: nothing that a judgement rests on."""
    found = json.loads(document)
    return [
        {key: gpu[key] for key in ("address", "verdict", "can_go", "functions", "driver", "name")}
        for gpu in found["gpus"]
    ]


class TestReading:
    def test_scan_is_the_hosts_own(self, gpuhost: LabHost, root: str) -> None:
        there = typed("scan", "--json", "--connect", root)
        assert there.returncode == 0, there.stderr
        own = gpuhost.run("vfio-kit scan --json").stdout
        assert without_time(there.stdout) == without_time(own)
        assert GPU in [gpu["address"] for gpu in json.loads(there.stdout)["gpus"]]

    def test_plan(self, root: str, spec: Path) -> None:
        done = typed("plan", "--spec", spec, "--connect", root)
        assert done.returncode == 0, done.stderr
        assert "from snd_hda_intel" in done.stdout

    def test_an_unknown_host_key_ends_it(self, root: str, tmp_path: Path) -> None:
        (tmp_path / "none").write_text("")
        done = typed("scan", "--connect", root.replace("/known_hosts", "/none"))
        assert (done.returncode, done.stdout) == (4, "")
        assert "Host key verification failed" in done.stderr


class TestSudo:
    @pytest.fixture
    def tester(self, gpuhost: LabHost, known_hosts: Path) -> Iterator[str]:
        yield uri(known_hosts, "tester")
        gpuhost.run(f"rm -f {SUDOERS}")

    def test_least_privilege(self, gpuhost: LabHost, tester: str) -> None:
        seen = typed("scan", "--json", "--connect", tester)
        assert seen.returncode == 0, seen.stderr
        assert "VK502" in seen.stdout  # as itself, which does not see all
        refused = typed("list", "--connect", tester)
        assert refused.returncode == 4
        assert "sudo: a password is required" in refused.stderr and "NOPASSWD" in refused.stderr
        refused = typed("down", "x", "--connect", tester)
        assert (refused.returncode, refused.stdout) == (4, "")
        line = "tester ALL=(root) NOPASSWD: /usr/local/bin/vfio-kit remote"
        gpuhost.run(f"umask 227; echo '{line}' > {SUDOERS}; visudo -c -f {SUDOERS}")
        assert "VK502" not in typed("scan", "--json", "--connect", tester).stdout
        assert typed("list", "--connect", tester).returncode == 0
        unknown = typed("down", "x", "--connect", tester)
        assert (unknown.returncode, "no VM 'x' here" in unknown.stderr) == (2, True)
        # One line allows that one command, and no other.
        assert gpuhost.run("sudo -n vfio-kit list", check=False, user="tester").returncode == 1


def interrupted(root: str, spec: Path, at: str, number: signal.Signals) -> str:
    """`up` that gets a signal when it says `at`; what it said in all."""
    process = started("up", "far", "--spec", spec, "--connect", root)
    try:
        assert process.stderr
        said = []
        for line in process.stderr:
            said.append(line)
            if at in line:
                process.send_signal(number)
                break
        _, rest = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == (130 if number is signal.SIGINT else -number), "".join(said) + rest
    return "".join(said) + rest


def settled(host: LabHost) -> str:
    """The host's state when no vfio-kit is at work on it any longer."""
    host.run("for i in $(seq 120); do pgrep -x vfio-kit >/dev/null || break; sleep 1; done")
    return host.run(SNAPSHOT).stdout


class TestInterrupted:
    def test_ctrl_c_on_the_workstation_puts_the_host_back(
        self, gpuhost: LabHost, root: str, spec: Path
    ) -> None:
        before = gpuhost.run(SNAPSHOT).stdout
        said = interrupted(root, spec, "waiting for the guest", signal.SIGINT)
        # It was waited for, and its words came through.
        assert "was told" in said and "the host is as it was" in said
        assert differences(before, gpuhost.run(SNAPSHOT).stdout) == []

    def test_a_workstation_that_is_gone_does_so_too(
        self, gpuhost: LabHost, root: str, spec: Path
    ) -> None:
        before = gpuhost.run(SNAPSHOT).stdout
        interrupted(root, spec, "waiting for the guest", signal.SIGKILL)
        assert differences(before, settled(gpuhost)) == []


@pytest.fixture(scope="class")
def story() -> dict[str, str]:
    """What one test of a class leaves for a later one."""
    return {}


class TestUpListVerifyDown:
    def test_up(self, gpuhost: LabHost, root: str, spec: Path, story: dict[str, str]) -> None:
        story["before"] = gpuhost.run(SNAPSHOT).stdout
        words = ("up", "far", "--spec", spec, "--connect", root, "--timeout", "1200")
        done = typed(*words, timeout=1500)
        assert done.returncode == 0, done.stderr
        story["login"] = done.stdout
        assert "vfio-kit verify far --connect " in done.stderr
        driver = gpuhost.run(f"readlink /sys/bus/pci/devices/{GPU}/driver").stdout
        assert driver.strip().endswith("/vfio-pci")

    def test_the_printed_command_logs_in_from_here(self, story: dict[str, str]) -> None:
        command = story["login"].strip().removesuffix("'") + " lspci -nn -d 10de:'"
        done = subprocess.run(
            ["sh", "-c", command],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )
        assert "10de:13f1" in done.stdout, done.stderr

    def test_list(self, root: str) -> None:
        done = typed(
            "list", "--json", "--connect", root, "--connect", "qemu+ssh://127.0.0.1:1/system"
        )
        assert done.returncode == 4
        one, gone = json.loads(done.stdout)["hosts"]
        assert [(vm["name"], vm["state"], vm["gpus"]) for vm in one["vms"]] == [
            ("far", "running", [GPU])
        ]
        assert (one["error"], gone["vms"]) == (None, None)

    def test_verify(self, root: str) -> None:
        done = typed("verify", "far", "--json", "--connect", root)
        assert done.returncode == 3, done.stderr  # the guest has no driver
        (guest,) = json.loads(done.stdout)["hosts"]
        found = {check["code"]: check["status"] for check in guest["checks"]}
        assert (found["pci"], found["module"]) == ("ok", "failed")

    def test_a_second_workstation_does_not_collide(
        self, root: str, spec: Path, story: dict[str, str]
    ) -> None:
        assert "login" in story  # or this would bring it up
        done = typed("up", "far", "--spec", spec, "--connect", root)
        assert done.returncode == 2 and "vfio-kit down far" in done.stderr

    def test_down(self, gpuhost: LabHost, root: str, story: dict[str, str]) -> None:
        done = typed("down", "far", "--purge", "--connect", root)
        assert done.returncode == 0, done.stderr
        assert differences(story["before"], gpuhost.run(SNAPSHOT).stdout) == []
        assert typed("list", "--connect", root).stdout.split()[5:] == [
            *(f"root@127.0.0.1:{machine.state().port}", "-", "no", "VM", "is", "up", "-", "-")
        ]
