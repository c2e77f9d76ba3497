"""`up` beside what it stands on: QEMU by hand with the same arguments, and virt-install.

All three start the same image with the same functions in the same network, on a host that runs
nothing else, and do by themselves all that it takes: overlay, seed, drivers. Hugepages are there
before, for all of them: how long the kernel takes to make them hangs on what ran last (4 to 23 s).
"""

import json
from collections.abc import Iterator
from statistics import median

import pytest

from . import product
from .conftest import LabHost
from .test_main_job import AUDIO, DIRECT, GPU

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]

RUNS = 3
MOST_OF_BARE = 1.9
"""Times what QEMU by hand takes until SSH greets, so that a regression is seen: 1.2 to 1.6 was
measured, where 1.1 is wanted. Most of it is libvirt's own start of the guest, which took 10 to 29 s
(virt-install's as well), and 5 to 8 s are Python, all on an emulated CPU."""
INSIDE = product.CHECKOUT / "tests/lab/inside/measure.py"
FOLDER = "/root/speed"
Times = dict[str, float]


@pytest.fixture
def ready(gpuhost: LabHost) -> Iterator[LabHost]:
    """The host with the files that the others start from, and with hugepages for one guest."""
    outputs = "--output qemu --output microvm --output cloud-init"
    gpuhost.run(f"vfio-kit render --name speed --gpu 01:00.0 {DIRECT} {outputs} -o {FOLDER}")
    gpuhost.put(INSIDE, "/root/measure.py")
    # As pip does where it is not told otherwise; the lab leaves it out to be installed sooner.
    gpuhost.run("/opt/vfio-kit/bin/python -m compileall -q /opt/vfio-kit/lib", timeout=600)
    gpuhost.run("echo 512 > /proc/sys/vm/nr_hugepages; grep -qx 512 /proc/sys/vm/nr_hugepages")
    yield gpuhost
    gpuhost.run(f"rm -r {FOLDER} /root/measure.py; echo 0 > /proc/sys/vm/nr_hugepages")


def test_a_microvm_greets_no_later_than_a_q35(ready: LabHost) -> None:
    """With the card, which both see at the same place; docs/machine.md has the numbers."""
    found = {way: by_hand(ready, way) for way in ("bare", "microvm")}
    print(json.dumps(found))
    took = {way: times["greeting"] - times["started"] for way, times in found.items()}
    assert took["microvm"] <= 1.1 * took["bare"]


def test_up_costs_little_more_than_qemu_and_less_than_virt_install(ready: LabHost) -> None:
    found: dict[str, list[Times]] = {"bare": [], "up": [], "virt-install": []}
    for _ in range(RUNS):
        for way, times in found.items():
            times.append(up(ready) if way == "up" else by_hand(ready, way))
            print(way, json.dumps(times[-1]))
    greeting, login = (
        {way: median(times[what] for times in runs) for way, runs in found.items()}
        for what in ("greeting", "login")
    )
    for what, seconds in (("greeting", greeting), ("login", login)):
        for way in ("bare", "virt-install"):
            print(f"{what}: up {seconds['up']:.1f} s, {way} {seconds[way]:.1f} s:", end=" ")
            print(f"{seconds['up'] / seconds[way]:.2f} times")
    assert greeting["up"] <= MOST_OF_BARE * greeting["bare"]
    assert greeting["up"] < greeting["virt-install"]


def by_hand(host: LabHost, way: str) -> Times:
    done = host.run(f"python3 /root/measure.py {way} {FOLDER} {GPU} {AUDIO}", timeout=900)
    return dict(json.loads(done.stdout))


def up(host: LabHost) -> Times:
    """When SSH greeted and the login was done, since `vfio-kit` was called; and its steps."""
    command = f"vfio-kit up speed --gpu 01:00.0 {DIRECT} --json"
    done = host.run(f"cat /proc/uptime; {command}; cat /proc/uptime", timeout=900)
    first, *document, last = done.stdout.splitlines()
    told = json.loads("\n".join(document))
    host.run("vfio-kit down speed --purge", timeout=300)
    ends = {step["what"]: step["begin"] + step["seconds"] for step in told["steps"]}
    # What the interpreter takes to get to the first line of `up` belongs to it.
    before = float(last.split()[0]) - float(first.split()[0]) - told["seconds"]
    times = {what: round(end + before, 2) for what, end in ends.items()}
    greeting = next(end for what, end in times.items() if what.startswith("SSH server greets"))
    login = next(end for what, end in times.items() if what.startswith("logged in"))
    return {"before": round(before, 2), **times, "greeting": greeting, "login": login}
