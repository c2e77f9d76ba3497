"""`up` and `down` broken off wherever they change something: the host must be as it was.

The faults are put, mended and judged on the host itself (fault_runner.py), many in one command: a
fault costs what `up` costs as far as it comes, and no handshake.  At the end it is said how many
faults there were, and how many were survived.
"""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from .conftest import LabHost
from .hoststate import RECORDS, SNAPSHOT, differences
from .pieces import in_pieces
from .test_main_job import DIRECT

STATE = "/var/lib/vfio-kit"
JOURNAL = f"{STATE}/x/journal.jsonl"
IMAGES = "/var/lib/libvirt/images"
UP = f"vfio-kit up x --gpu 01:00.0 {DIRECT.replace('1024', '512')} --timeout 3"
RUNNER = "/root/faults"
HALF = 15
"""About half the points at which `up` changes something: so many faults in one command."""

pytestmark = pytest.mark.topology("m4000-isolated")


@dataclass(frozen=True, slots=True)
class Breaker:
    """Has faults put on the host, and remembers what became of them."""

    host: LabHost
    title: str
    tally: dict[str, list[dict[str, Any]]]

    def all_survive(self, kind: str, up: str = UP, **orders: Any) -> list[dict[str, Any]]:
        """What the runner found (`fault_runner.Result`); the host must be as it was after each."""
        points = orders.get("points", [("", "~", 1)])  # where none are given: all there are
        if kind == "points" and any(path[0] in "@~" for _, path, _ in points):
            self.calibrate()
        text = json.dumps({"kind": kind, "up": shlex.split(up), **orders})
        self.host.run(f"cat > {RUNNER}/orders.json", stdin=text)
        command = f"cd {RUNNER} && python3 -m tests.lab.fault_runner orders.json"
        done = self.host.run(command, check=False, timeout=1800)
        results = [json.loads(line) for line in done.stdout.splitlines()]
        self.tally.setdefault(self.title, []).extend(results)
        for one in results:
            print(one["fault"], "|", one["where"], "|", one["status"], "|", one["seconds"], "s")
        assert done.returncode == 0, done.stderr
        assert results
        assert [one for one in results if not one["survived"]] == []
        return results

    def calibrate(self) -> None:
        """Have the points found, and the journal's lines counted, unless that is done."""
        if self.host.run(f"test -e {RUNNER}/calibration.json", check=False).returncode:
            (found,) = self.all_survive("calibrate")
            assert found["status"] == 6  # its guest does not answer


@pytest.fixture(scope="module")
def tally() -> dict[str, list[dict[str, Any]]]:
    """What became of each fault, by the test that put it."""
    return {}


@pytest.fixture
def breaker(
    gpuhost: LabHost,
    tally: dict[str, list[dict[str, Any]]],
    notes: dict[str, str],
    request: pytest.FixtureRequest,
) -> Iterator[Breaker]:
    """Breaks vfio-kit off on the host; what became of it is counted for the summary."""
    # libvirt runs QEMU to learn what it can, once; that is none of the processes that are compared.
    gpuhost.run(f"virsh domcapabilities > /dev/null; mkdir -p {RUNNER}/tests/lab")
    for name in ("fault_runner.py", "fault_strace.py", "hoststate.py"):
        gpuhost.put(Path(__file__).with_name(name), f"{RUNNER}/tests/lab/{name}")
    title = request.node.nodeid.partition("::")[2]
    tally.pop(title, None)  # this is its repetition
    yield Breaker(gpuhost, title, tally)
    notes.pop("in all", None)
    notes[title] = counted(tally.get(title, []))
    notes["in all"] = counted([one for found in tally.values() for one in found])
    gpuhost.say(f"{title}: {notes[title]}")


def counted(found: Sequence[dict[str, Any]]) -> str:
    survived = sum(one["survived"] for one in found)
    each = sum(one["seconds"] for one in found) / max(1, len(found))
    return f"{len(found)} faults injected, {survived} survived; {each:.0f} s each"


@pytest.mark.lab
class TestFewFaults:
    """Some of what the long tests do everywhere."""

    def test_up_is_killed(self, breaker: Breaker) -> None:
        points = (
            ("write", JOURNAL, 1),  # there is a record, and no line in the journal
            ("rename", f"{IMAGES}/.x-seed.iso.tmp", 1),  # half the seed is there
        )
        breaker.all_survive("points", points=points)

    def test_up_is_interrupted(self, breaker: Breaker) -> None:
        """While the overlay is there, and that it is there is not written down."""
        points = (("chmod", f"{IMAGES}/x.qcow2", 1),)
        (found,) = breaker.all_survive("points", what="SIGINT", hold=2, points=points)
        assert found["mended_by"] == []  # by itself

    def test_down_is_killed(self, breaker: Breaker) -> None:
        """Of a VM whose `up` was killed; after the domain is gone, before the rest is."""
        assert len(breaker.all_survive("chain", most=2)) == 2


@pytest.mark.lab_long
class TestKilled:
    """SIGKILL at every boundary: a killed program has not made the call that it is killed at.

    So a line of the journal is missing, or it is there and nothing that comes behind it; and what
    a step changes is done in part, or done and not written down.
    """

    reached: ClassVar[set[str]] = set()

    @pytest.mark.parametrize(("first", "most"), [(0, HALF), (HALF, 1000)])
    def test_at_every_change_that_up_makes(self, breaker: Breaker, first: int, most: int) -> None:
        mends = ["down", "repair"]
        results = breaker.all_survive("points", first=first, most=most, mends=mends)
        assert {one["status"] for one in results} == {-9}
        self.reached.update(one["where"] for one in results)

    def test_was_in_every_step(self) -> None:
        steps = ("state", "hugepages", "keys", "disk", "seed", "define", "start")
        assert {f"{step} {phase}" for step in steps for phase in ("begin", "done")} <= self.reached

    def test_and_up_again(self, breaker: Breaker) -> None:
        """What is half done is taken down first, and the new one begins afresh."""
        points = (("fsync", "@state begin", 1), ("rename", f"{IMAGES}/.x-seed.iso.tmp", 1))
        breaker.all_survive("points", points=points, mends=["up"])
        breaker.all_survive("middle", waits=[1], mends=["up"])

    def test_with_a_torn_line_in_the_journal(self, breaker: Breaker) -> None:
        lines = ("hugepages done", "seed begin")
        breaker.all_survive(
            "points", points=[("write", f"@{line}", 1) for line in lines], torn=True
        )

    def test_while_libvirt_starts_the_guest(self, breaker: Breaker) -> None:
        results = breaker.all_survive("middle", waits=[0.0, 0.5, 2, 5])
        assert {one["where"] for one in results} == {"start begin"}

    def test_while_it_waits_for_the_guest(self, breaker: Breaker) -> None:
        up = UP.replace("--timeout 3", "--timeout 60")
        breaker.all_survive("middle", up, line="start done", waits=[1, 10])

    @pytest.mark.parametrize("command", ["down", "repair"])
    def test_at_every_boundary_of_down(self, breaker: Breaker, command: str) -> None:
        """Once a `down` was killed, `repair` finishes its work, and is killed, too."""
        results = breaker.all_survive("chain", mends=[command])
        undone = [one["where"] for one in results]
        assert len(results) >= 14, undone


@pytest.mark.lab_long
class TestInterrupted:
    """Ctrl-C and a lost session: `up` puts the host back itself."""

    def test_in_each_step(self, breaker: Breaker) -> None:
        points = (
            ("rename", f"{STATE}/x/.vm.json.tmp", 1),
            ("write", "~nr_hugepages", 1),
            ("rename", f"{STATE}/x/.id_ed25519.tmp", 1),
            ("chmod", f"{IMAGES}/x.qcow2", 1),
            ("write", f"{IMAGES}/.x-seed.iso.tmp", 1),
            ("fsync", "@define begin", 1),
            ("write", "@define done", 1),
            ("fsync", "@start begin", 1),
        )
        breaker.all_survive("points", what="SIGINT", hold=2, points=points)

    @pytest.mark.parametrize("what", ["SIGINT", "SIGTERM", "SIGHUP", "SIGINT+SIGINT"])
    def test_while_libvirt_starts_the_guest(self, breaker: Breaker, what: str) -> None:
        breaker.all_survive("middle", what=what, waits=[2])

    def test_while_it_waits_for_the_guest(self, breaker: Breaker) -> None:
        up = UP.replace("--timeout 3", "--timeout 60")
        breaker.all_survive("middle", up, what="SIGINT", line="start done", waits=[5])

    def test_and_killed_while_it_puts_the_host_back(self, breaker: Breaker) -> None:
        up = UP.replace("--timeout 3", "--timeout 60")
        breaker.all_survive("middle", up, what="SIGINT+SIGKILL", line="start done", waits=[2])


@pytest.mark.lab_long
class TestRefusedByTheHost:
    def test_no_space_for_a_line_of_the_journal(self, breaker: Breaker) -> None:
        steps = ("state", "hugepages", "keys", "disk", "seed", "define", "start")
        points = [("write", f"@{step} {phase}", 1) for step in steps for phase in ("begin", "done")]
        breaker.all_survive("points", what="ENOSPC", points=points)

    def test_a_disk_that_fails_to_sync(self, breaker: Breaker) -> None:
        points = (("fsync", "@hugepages done", 1), ("fsync", "@define begin", 1))
        breaker.all_survive("points", what="EIO", points=points)

    def test_the_disk_of_the_images_is_full(self, breaker: Breaker) -> None:
        host = breaker.host
        host.run("mkdir /srv/small && mount -t tmpfs -o size=300m,mode=755 small /srv/small")
        try:
            breaker.all_survive(
                "points",
                f"{UP} --image-dir /srv/small",
                what="-",
                hold=8,
                points=[("fsync", "@disk begin", 1)],
                meanwhile="head -c 400M /dev/zero > /srv/small/filler 2> /dev/null; true",
                afterwards="rm /srv/small/filler",
            )
            assert host.run("ls -A /srv/small").stdout == ""
        finally:
            host.run("umount /srv/small && rmdir /srv/small")

    def test_the_disk_of_the_journal_is_full(self, breaker: Breaker) -> None:
        host = breaker.host
        host.run(f"mkdir -p {STATE}; mount -t tmpfs -o size=1m,mode=700 small {STATE}")
        try:
            breaker.all_survive(
                "points",
                what="-",
                hold=5,
                points=[("fsync", "@hugepages begin", 1)],
                meanwhile=f"head -c 2M /dev/zero > {STATE}/filler 2> /dev/null; true",
                afterwards=f"rm {STATE}/filler",
            )
        finally:
            host.run(f"umount {STATE}")

    def test_memory_that_is_free_in_pieces_alone(self, breaker: Breaker) -> None:
        """What the last look counts is enough, and what the kernel can give in one piece is not."""
        up = UP.replace("--memory 512", "--memory 5120")
        with in_pieces(breaker.host, 1, 3072, fixed=True):
            (found,) = breaker.all_survive("plain", up, what="memory in pieces")
        assert found["status"] == 4
        said = " ".join(found["said"].split())  # lines are wrapped
        assert re.search(r"only \d+ of 2560 missing hugepages of 2M could be made free", said)
        assert re.search("hugepages=(0:)?2560", said)  # how to have them at boot

    def test_a_kernel_that_is_none(self, breaker: Breaker) -> None:
        up = UP.replace(f"{IMAGES}/guest-vmlinuz", "/etc/services")
        (found,) = breaker.all_survive("plain", up, what="a kernel that is none")
        assert found["status"] in (5, 6)

    def test_a_disk_with_nothing_to_boot(self, breaker: Breaker) -> None:
        host = breaker.host
        host.run(f"qemu-img create -q -f qcow2 {IMAGES}/empty.qcow2 1G")
        try:
            up = (
                f"vfio-kit up x --gpu 01:00.0 --guest debian-12 --image {IMAGES}/empty.qcow2 "
                "--driver none --boot bios --cpus 1 --memory 512 --timeout 5"
            )
            (found,) = breaker.all_survive("plain", up, what="a disk with nothing to boot")
            assert found["status"] == 6
        finally:
            host.run(f"rm {IMAGES}/empty.qcow2")


@pytest.mark.lab_long
class TestLibvirtdGoesAway:
    RESTART = "systemctl restart libvirtd"

    @pytest.mark.parametrize("line", ["define begin", "start begin"])
    def test_before_it_is_asked(self, breaker: Breaker, line: str) -> None:
        points = [("fsync", f"@{line}", 1)]
        breaker.all_survive("points", what="-", hold=25, points=points, meanwhile=self.RESTART)

    def test_while_it_starts_the_guest(self, breaker: Breaker) -> None:
        breaker.all_survive("middle", what="-", waits=[2], meanwhile=self.RESTART)

    def test_killed_while_it_starts_the_guest(self, breaker: Breaker) -> None:
        kill = "kill -9 $(pidof libvirtd)"
        breaker.all_survive("middle", what="-", waits=[3], meanwhile=kill)

    def test_while_the_guest_is_waited_for(self, breaker: Breaker) -> None:
        up = UP.replace("--timeout 3", "--timeout 40")
        breaker.all_survive(
            "middle", up, what="-", line="start done", waits=[3], meanwhile=self.RESTART
        )


@pytest.mark.lab_long
class TestADeviceThatIsNotLetGo:
    def test_is_reported_in_time(self, breaker: Breaker) -> None:
        """Who has the card's mixer open keeps the kernel from taking its driver away."""
        opened = "setsid sleep 3600 < /dev/snd/controlC0 > /dev/null 2>&1 & echo $! > /run/pid"
        (found,) = breaker.all_survive(
            "points",
            what="-",
            hold=8,
            points=[("fsync", "@start begin", 1)],
            meanwhile=f"{opened}; sleep 1",
            afterwards="kill $(cat /run/pid); rm /run/pid; sleep 5",
        )
        assert found["status"] == 5
        # Who holds it cannot be told any more: the driver has taken its nodes out of sysfs.
        assert "0000:01:00.1 has no driver, had snd_hda_intel" in found["said"]


@pytest.mark.lab_long
class TestPowerCut:
    """Nothing that was not synced is there when the host comes back."""

    @pytest.mark.parametrize("line", ["seed done", "start done"])
    def test_in_the_middle_of_up(self, breaker: Breaker, line: str) -> None:
        host = breaker.host
        before = host.run(SNAPSHOT + RECORDS).stdout
        host.run("sync")
        host.run(
            f"setsid {UP.replace('--timeout 3', '--timeout 600')} > /run/said 2>&1 < /dev/null & "
            f"until grep -q '{line.split()[0]}.*{line.split()[1]}' {JOURNAL}; do sleep 0.2; done",
            timeout=300,
        )
        host.cut_power()
        host.run("vfio-kit down x --purge", timeout=300)
        left = differences(before, host.run(SNAPSHOT + RECORDS).stdout)
        breaker.tally.setdefault(breaker.title, []).append({"survived": not left, "seconds": 0})
        assert left == []
