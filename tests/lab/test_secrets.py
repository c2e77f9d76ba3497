"""Who sees what: private keys are root's alone, QEMU is confined, users without root are told.

Where a key stands is looked for by a part of it, in every file, argument and environment.
"""

import json
import re
from collections.abc import Iterator

import pytest

from . import product
from .conftest import LabHost
from .hoststate import RECORDS, SNAPSHOT, differences

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]

STATE, IMAGES = "/var/lib/vfio-kit", "/var/lib/libvirt/images"
SPEC = (
    f"--gpu 01:00.0 --guest debian-12 --image {IMAGES}/guest.qcow2 --driver none "
    f"--kernel {IMAGES}/guest-vmlinuz --initrd {IMAGES}/guest-initrd --cpus 1 --memory 1024"
)
TREES = "/boot /dev/shm /etc /home /mnt /opt /root /run /srv /tmp /usr/local /var"

EXECS = "/root/execs"
"""Every program that `up` started, with arguments and environment."""

_PEM = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END OPENSSH", re.DOTALL)


def private_part(text: str) -> str:
    """The longest part of a line of a key that says nothing but its private half.

    That is in bytes 161 to 192 of an ed25519 key without passphrase (OpenSSH's PROTOCOL.key), and
    its writer chooses how long a line is.
    """
    found = _PEM.search(text.replace("\\n", "\n"))
    assert found is not None
    begin, end, parts = -(-161 * 4 // 3), 193 * 4 // 3, [""]
    for line in found[1].split():
        parts.append(line[max(begin, 0) : max(end, 0)])
        begin, end = begin - len(line), end - len(line)
    longest = max(parts, key=len)
    assert len(longest) > 20
    return longest


class Search:
    """Looks for parts of keys on the host, and shows them to no process there."""

    def __init__(self, host: LabHost, *parts: str) -> None:
        self._host, self._needles = host, "".join(f"{part}\n" for part in parts)

    def _grep(self, command: str, user: str = "root") -> list[str]:
        """Standard output's lines; what is looked for comes on stdin, as `-f -` has it."""
        done = self._host.run(command, check=False, timeout=600, stdin=self._needles, user=user)
        assert done.returncode in (0, 1, 2), done.stderr
        return done.stdout.splitlines()

    def files(self, user: str = "root") -> list[str]:
        return self._grep(f"LC_ALL=C grep -rslF -D skip -f - {TREES}", user)

    def processes(self, user: str = "root") -> list[str]:
        found = "/proc/[0-9]*/cmdline /proc/[0-9]*/environ"
        return self._grep(f"LC_ALL=C grep -slF -f - {found}", user)

    def said(self, command: str) -> list[str]:
        """Whether a command's output has it."""
        search = 'LC_ALL=C grep -aF -f <(printf %s "$lines")'
        return self._grep(f"lines=$(cat); {command} | {search}")


class TestKeys:
    """One guest; the tests build on each other."""

    @pytest.fixture
    def unchanged(self, gpuhost: LabHost) -> Iterator[LabHost]:
        gpuhost.run("true", user="tester")  # whose session has a mount of its own, and lasts
        before = gpuhost.run(SNAPSHOT + RECORDS).stdout
        yield gpuhost
        gpuhost.run(f"rm -f {EXECS}*; vfio-kit down quiet --purge", check=False, timeout=300)
        assert differences(before, gpuhost.run(SNAPSHOT + RECORDS).stdout) == []

    def test_from_up_to_down(self, unchanged: LabHost) -> None:
        host = unchanged
        trace = f"strace -f --seccomp-bpf -qq -v -s 100000 -e trace=execve,execveat -o {EXECS}"
        done = host.run(f"{trace} vfio-kit up quiet {SPEC} --json", timeout=1500)
        assert json.loads(done.stdout)["failure"] is None
        client, guest = self._keys(host)
        both = Search(host, client, guest)

        assert "qemu-img" in host.run(f"cat {EXECS}").stdout
        assert both.said(f"cat {EXECS}") == []
        host.run(f"rm {EXECS}")
        assert both.processes() == []
        assert both.said("journalctl -o export --no-pager") == []
        assert both.said("virsh dumpxml --security-info quiet") == []
        assert both.said(f"cat {STATE}/quiet/journal.jsonl {STATE}/quiet/vm.json") == []
        assert client not in done.stdout + done.stderr and guest not in done.stdout + done.stderr

        seed, disk = f"{IMAGES}/quiet-seed.iso", f"{IMAGES}/quiet.qcow2"
        assert Search(host, client).files() == [f"{STATE}/quiet/id_ed25519"]
        # The guest has put its host key where sshd wants it: on its disk.
        assert set(Search(host, guest).files()) <= {seed, disk}
        modes = host.run(f"stat -c '%a %U' {STATE}/quiet {STATE}/quiet/* {seed} {disk}").stdout
        assert set(modes.split("\n")) == {"700 root", "600 root", "600 libvirt-qemu", ""}
        assert both.files(user="tester") == both.processes(user="tester") == []

        self._confined(host)
        host.run("virsh -q destroy quiet")
        # libvirt gives a disk back; not a read-only one, which another VM might have as well.
        modes = host.run(f"stat -c '%a %U' {disk} {seed}").stdout
        assert modes.split("\n") == ["600 root", "600 libvirt-qemu", ""]
        host.run("vfio-kit down quiet", timeout=300)
        assert both.files() == both.processes() == []

    def _keys(self, host: LabHost) -> tuple[str, str]:
        client = private_part(host.run(f"cat {STATE}/quiet/id_ed25519").stdout)
        seed = host.run(f"grep -a ed25519_private {IMAGES}/quiet-seed.iso")
        guest = private_part(seed.stdout)
        assert client != guest
        assert Search(host, guest).files(), "the key that is looked for is nowhere"
        return client, guest

    def _confined(self, host: LabHost) -> None:
        profile = host.run("cat /proc/$(cat /run/libvirt/qemu/quiet.pid)/attr/current").stdout
        assert re.fullmatch(r"libvirt-[0-9a-f-]{36} \(enforce\)\s*", profile)
        status = host.run(
            "grep -E '^(Uid|Gid|CapEff):' /proc/$(cat /run/libvirt/qemu/quiet.pid)/status"
        )
        fields = dict(line.split(":", 1) for line in status.stdout.splitlines())
        assert int(fields["CapEff"], 16) == 0
        assert "0" not in fields["Uid"].split()


class TestWithoutRoot:
    """docs/permissions.md: what needs no root works, and the rest says what it is missing."""

    @pytest.mark.parametrize(
        "command",
        [
            "scan",
            "scan --tree",
            "explain VK101",
            "advise --gpu 01:00.0",
            f"plan {SPEC}",
            f"render {SPEC} --output libvirt --output qemu --output cloud-init -o /tmp/mine",
            "snapshot -o /tmp/mine.tar.gz",
            "image list",
            "image list --dir /tmp",
        ],
    )
    def test_what_needs_none(self, gpuhost: LabHost, command: str) -> None:
        done = gpuhost.run(f"vfio-kit {command}", user="tester", check=False)
        gpuhost.run("rm -rf /tmp/mine /tmp/mine.tar.gz")
        expected = {0, 4} if command.startswith("image list") else {0}
        assert done.returncode in expected, done.stderr
        assert "Traceback" not in done.stderr

    def test_what_is_rendered_is_the_users_own(self, gpuhost: LabHost) -> None:
        gpuhost.run(f"vfio-kit render {SPEC} --output cloud-init -o /tmp/mine", user="tester")
        listed = gpuhost.run("stat -c '%a %U' /tmp/mine /tmp/mine/*").stdout.split("\n")
        gpuhost.run("rm -rf /tmp/mine")
        assert set(listed) == {"700 tester", "600 tester", ""}

    def test_verify_of_this_machine(self, gpuhost: LabHost) -> None:
        done = gpuhost.run("vfio-kit verify --local --json", user="tester", check=False)
        assert done.returncode == 3, done.stderr
        assert json.loads(done.stdout)["schema"] == "vfio-kit/verify/2"

    @pytest.mark.parametrize(
        "command",
        [f"up x {SPEC}", "down x", "start x", "stop x", "repair", "bake /tmp/x.qcow2"],
    )
    def test_what_needs_root_says_so(self, gpuhost: LabHost, command: str) -> None:
        done = gpuhost.run(f"vfio-kit {command}", user="tester", check=False)
        assert done.returncode == 4, done.stdout + done.stderr
        assert "needs root" in done.stderr and "hint: sudo " in done.stderr

    def test_a_closed_record_is_said_to_be_closed(self, gpuhost: LabHost) -> None:
        gpuhost.run(f"install -d -m 0700 {STATE}")
        for command in ("list", "verify x", "repair --check"):
            done = gpuhost.run(f"vfio-kit {command}", user="tester", check=False)
            assert done.returncode == 4, (command, done.stdout, done.stderr)
            assert "root" in done.stderr

    def test_up_dry_run(self, gpuhost: LabHost) -> None:
        done = gpuhost.run(f"vfio-kit up x --dry-run {SPEC}", user="tester")
        assert "nothing was changed" in done.stdout


class TestAGroup:
    """What packaging/ ships, installed: a member has what it says and nothing else."""

    @pytest.fixture(autouse=True)
    def installed(self, gpuhost: LabHost) -> Iterator[None]:
        gpuhost.put(product.CHECKOUT / "packaging", "/root/packaging")
        gpuhost.run(
            "set -e; groupadd --system vfio-kit; gpasswd -a tester vfio-kit; "
            "install -m 0440 /root/packaging/sudoers/vfio-kit /etc/sudoers.d/vfio-kit; "
            "install -m 0644 /root/packaging/polkit/50-vfio-kit.rules /etc/polkit-1/rules.d/; "
            "visudo -c; systemctl restart polkit"
        )
        yield
        gpuhost.run(
            "rm -rf /root/packaging /etc/sudoers.d/vfio-kit "
            "/etc/polkit-1/rules.d/50-vfio-kit.rules; groupdel vfio-kit; systemctl restart polkit"
        )

    def member(self, host: LabHost, command: str) -> tuple[int, str]:
        """A session of its own has the new group."""
        done = host.run(f"su tester -c '{command}'", check=False)
        return done.returncode, done.stdout + done.stderr

    def test_looks_are_free_and_words_of_ones_own_are_not(self, gpuhost: LabHost) -> None:
        for look in ("scan --json", "list", "repair --check"):
            status, said = self.member(gpuhost, f"sudo -n vfio-kit {look}")
            assert status in (0, 3), (look, said)
        for other in ("scan --root /", "list --state-dir /tmp", "up x", "snapshot -o /etc/x"):
            status, said = self.member(gpuhost, f"sudo -n vfio-kit {other}")
            assert status == 1 and "password is required" in said, (other, said)
        status, said = self.member(gpuhost, "sudo -n id")
        assert status == 1, said

    def test_nobody_elses_environment_counts(self, gpuhost: LabHost) -> None:
        poison = (
            "PATH=/tmp/evil:$PATH HOME=/tmp/evil PYTHONPATH=/tmp/evil VFIO_KIT_STATE_DIR=/tmp/evil"
        )
        gpuhost.run("mkdir -p /tmp/evil; echo \"open('/tmp/evil/ran', 'w')\" > /tmp/evil/click.py")
        try:
            status, said = self.member(gpuhost, f"{poison} sudo -n vfio-kit list")
            assert status == 0, said
            assert gpuhost.run("ls /tmp/evil").stdout.split() == ["click.py"]
        finally:
            gpuhost.run("rm -r /tmp/evil")

    def test_libvirt_without_a_password(self, gpuhost: LabHost) -> None:
        assert self.member(gpuhost, "virsh -q -c qemu:///system net-list --all")[0] == 0
        gpuhost.run("gpasswd -d tester vfio-kit")
        assert self.member(gpuhost, "virsh -q -c qemu:///system net-list --all")[0] != 0
