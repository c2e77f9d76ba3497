"""Two commands at once, one that was killed, and a driver that does not let go of its device.

Two guests are booted; the tests of a class stand in the order of its story, and the host's state is
compared before the first and after the last.
"""

import json
import shlex

import pytest

from .conftest import LabHost
from .hoststate import SNAPSHOT, differences
from .test_main_job import DIRECT, STATE, refused

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]

UP = f"vfio-kit up a --gpu 01:00.0 {DIRECT}"
IMPATIENT = """
import sys
import vfio_kit.apply.hypervisor as hypervisor
hypervisor.Hypervisor.start.__defaults__ = (0, 40.0)
hypervisor.Connection.change.__defaults__ = (30.0, "")
hypervisor.LIMIT = 30.0
from vfio_kit.cli import main
main()
"""
"""vfio-kit with shorter limits for its calls to libvirt; minutes are as good as these."""


@pytest.fixture(scope="class")
def story() -> dict[str, str]:
    """What one test leaves for a later one."""
    return {}


def in_background(host: LabHost, command: str, said: str = "/dev/null") -> str:
    """Starts a command of root's that goes on when this connection has ended; its PID."""
    script = f"nohup setsid {command} >{said} 2>&1 </dev/null & echo $!"
    return host.run(script).stdout.strip()


def wait_for(host: LabHost, what: str, timeout: float = 120) -> None:
    """Until this command succeeds."""
    looks = int(timeout * 5)
    host.run(f"for n in $(seq {looks}); do {what} && exit; sleep 0.2; done; exit 1",
             timeout=timeout + 60)  # fmt: skip


def begun(step: str) -> str:
    return f"grep -qs '\"{step}\"' {STATE}/a/journal.jsonl"


class TestTwoAtOnce:
    def test_the_second_is_told_who_is_at_work(
        self, gpuhost: LabHost, story: dict[str, str]
    ) -> None:
        story["before"] = gpuhost.run(SNAPSHOT).stdout
        story["pid"] = in_background(gpuhost, UP)
        wait_for(gpuhost, begun("state"))
        by = f"process {story['pid']} (vfio-kit up a --gpu 01:00.0"
        refused(gpuhost, UP, 4, by, "is at work on the VM 'a'")
        refused(gpuhost, "vfio-kit down a", 4, by, f"kill {story['pid']}")
        other = f"vfio-kit up b --gpu 01:00.0 {DIRECT}"
        refused(gpuhost, other, 3, "0000:01:00.0 belongs to the VM 'a'", by)

    def test_one_that_was_killed_is_half_done(
        self, gpuhost: LabHost, story: dict[str, str]
    ) -> None:
        wait_for(gpuhost, begun("wait"))
        gpuhost.run(f"kill -9 {story['pid']}")
        (vm,) = json.loads(gpuhost.run("vfio-kit list --json").stdout)["vms"]
        assert (vm["name"], vm["state"]) == ("a", "first boot")
        other = f"vfio-kit up b --gpu 01:00.0 {DIRECT}"
        refused(gpuhost, other, 3, "belongs to the VM 'a'", "vfio-kit down a")
        refused(gpuhost, f"{UP} --cpus 2", 3, "was made by another plan", "vfio-kit down a")

    def test_the_same_up_goes_on_waiting_while_libvirtd_is_restarted(
        self, gpuhost: LabHost
    ) -> None:
        in_background(gpuhost, "sh -c 'sleep 25; systemctl restart libvirtd'")
        done = gpuhost.run(f"{UP} --json", timeout=1500)
        print(done.stderr)
        document = json.loads(done.stdout)
        assert document["resumed"] is True
        assert document["address"]
        assert "binds to vfio-pci" not in done.stderr
        refused(gpuhost, UP, 2, "'a' is up", "vfio-kit down a")

    def test_down_may_be_repeated(self, gpuhost: LabHost, story: dict[str, str]) -> None:
        gpuhost.run("vfio-kit down a", timeout=300)
        gpuhost.run("vfio-kit down a --purge", timeout=300)
        assert differences(story["before"], gpuhost.run(SNAPSHOT).stdout) == []

    def test_a_plan_that_was_looked_at_is_refused_when_the_host_has_changed(
        self, gpuhost: LabHost
    ) -> None:
        plan = f"vfio-kit plan --name a --gpu 01:00.0 {DIRECT} --json"
        gpuhost.run(f"{plan} > /root/plan.json")
        unbind = "/sys/bus/pci/drivers/snd_hda_intel/unbind"
        gpuhost.run(f"echo 0000:01:00.1 > {unbind}; udevadm settle")
        try:
            refused(gpuhost, "vfio-kit up a --plan /root/plan.json", 3, "0000:01:00.1", "plan")
        finally:
            gpuhost.run("echo 0000:01:00.1 > /sys/bus/pci/drivers_probe; udevadm settle; "
                        "rm /root/plan.json")  # fmt: skip


class TestADriverThatDoesNotLetGo:
    def test_up_gives_up_and_says_which_driver(
        self, gpuhost: LabHost, story: dict[str, str]
    ) -> None:
        story["before"] = gpuhost.run(SNAPSHOT).stdout
        gpuhost.run(f"cat > /root/impatient.py <<'END'{IMPATIENT}END")
        impatient = UP.replace("vfio-kit", "/opt/vfio-kit/bin/python /root/impatient.py", 1)
        # snd_hda_intel does not let go of its card as long as a program has it open. Not before the
        # last look at the host, which would refuse a device that is held.
        hold = f"until {begun('state')}; do sleep 0.1; done; exec sleep 600 < /dev/snd/controlC0"
        holder = in_background(gpuhost, f"sh -c {shlex.quote(hold)}")
        pid = in_background(gpuhost, impatient, "/tmp/impatient")
        try:
            wait_for(gpuhost, f"! test -d /proc/{pid}", timeout=240)
            said = gpuhost.run("cat /tmp/impatient").stdout
        finally:
            gpuhost.run(f"kill {holder}")
        print(said)
        assert "has not ended within 44 s; 0000:01:00.0 has " in said
        # Who holds it cannot be told any more: the driver has taken its nodes out of sysfs.
        assert "0000:01:00.1 has no driver, had snd_hda_intel" in said
        assert "vfio-kit down a" in said
        assert "Traceback" not in said

    def test_when_it_lets_go_the_host_is_put_back(
        self, gpuhost: LabHost, story: dict[str, str]
    ) -> None:
        gpuhost.run("rm -f /root/impatient.py; udevadm settle")
        gpuhost.run("vfio-kit down a --purge", timeout=400)
        assert differences(story["before"], gpuhost.run(SNAPSHOT).stdout) == []
