"""The demo, run by scripts/demo: the whole chain on the virtual host, told as a story."""

import json
import subprocess
import sys
import time

from . import images, machine, product, ssh
from .faults import LabFault
from .hoststate import SNAPSHOT, differences

TOPOLOGY = "m4000-isolated"
IMAGES = "/var/lib/libvirt/images"
UP = (
    f"vfio-kit up demo --gpu 01:00.0 --guest debian-12 --image {IMAGES}/driver.qcow2 "
    f"--kernel {IMAGES}/driver-vmlinuz --initrd {IMAGES}/driver-initrd "
    "--driver none --cpus 1 --memory 1024"
)


class Story:
    """Prints what happens and why; counts what did not happen as it should."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.wrong: list[str] = []

    def tell(self, text: str) -> None:
        print(f"\n\033[1m[{time.monotonic() - self.begin:5.0f} s] {text}\033[0m", flush=True)

    def show(self, command: str, *, status: int = 0, shown: str | None = None) -> None:
        """Runs a command on the host with its output on ours; notes an unexpected exit status."""
        print(f"gpuhost# {shown or command}", flush=True)
        argv = ssh.command(machine.state().port, "root", [command])
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, check=False)
        if done.returncode == ssh.UNREACHABLE:
            machine.check_health()
        if done.returncode != status:
            self.check(False, f"exit {done.returncode} instead of {status}: {shown or command}")

    def check(self, good: bool, what: str) -> None:
        print(f"  {'✓' if good else '✗'} {what}", flush=True)
        if not good:
            self.wrong.append(what)


def output(command: str) -> str:
    """What a command on the host prints; LabFault where the emulator failed."""
    argv = ssh.command(machine.state().port, "root", [command])
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True
    )
    if done.returncode:
        machine.check_health()
        raise RuntimeError(f"{command}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def play(story: Story) -> None:
    story.tell(
        "A host with a card that it cannot drive: Debian 13, an IOMMU, a Quadro M4000 (emulated: "
        "real ids, real kernel, no silicon). Booting it."
    )
    machine.start(TOPOLOGY, images.say_to_stderr)

    story.tell("Installing vfio-kit there, from wheels, without network")
    install()
    before = output(SNAPSHOT)

    story.tell("1. scan: which card can go to a guest?")
    story.show("vfio-kit scan")

    story.tell("2. plan: what will be done, and what undoes it?")
    story.show(UP.replace("up demo", "plan --name demo"))

    story.tell("3. up: take the card into a VM that answers over SSH")
    story.show(UP)
    story.show("vfio-kit list")

    story.tell("4. In the guest: both functions of the card, in one slot")
    into_guest = guest_command("demo")
    guest = output(f"{into_guest} lspci -nn -d 10de:")
    print(guest, end="")
    story.check("[10de:13f1]" in guest and "[10de:0fbb]" in guest, "10de:13f1 and 10de:0fbb")
    slots = {line.split(".")[0] for line in guest.splitlines()}
    story.check(len(slots) == 1, f"one slot: {', '.join(sorted(slots))}")

    story.tell(
        "5. verify: NVIDIA's real driver 470.256.02 is in this guest and takes the card; that "
        "there is no silicon is what it then says, rung by rung (exit 3)"
    )
    story.show("vfio-kit verify demo", status=3)

    story.tell("6. down: the host as it was")
    story.show("vfio-kit down demo --purge")
    changed = differences(before, output(SNAPSHOT))
    story.check(not changed, "drivers, hugepages, domains, images, mounts and processes as before")
    print("".join(f"    {line}\n" for line in changed), end="")


def guest_command(name: str) -> str:
    """The shell words, on the host, that run the command behind them in the guest."""
    vms = json.loads(output("vfio-kit list --json"))["vms"]
    address = next(vm["address"] for vm in vms if vm["name"] == name)
    state = f"/var/lib/vfio-kit/{name}"
    return (
        f"ssh -i {state}/id_ed25519 -o UserKnownHostsFile={state}/known_hosts "
        f"-o HostKeyAlias={name} -o BatchMode=yes debian@{address}"
    )


def install() -> None:
    """Puts the wheels on the host, and installs them."""
    wheels = product.build_wheels(images.say_to_stderr)
    output("rm -rf /root/wheels")
    argv = ssh.copy(machine.state().port, [str(wheels)], ":/root/wheels")
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    begin = time.monotonic()
    output(product.INSTALL)
    images.say_to_stderr(f"pip install --no-index: {time.monotonic() - begin:.1f} s")


def main() -> int:
    """Plays the demo, once more after a fault of the emulator; returns the exit status."""
    for attempt in (1, 2):
        story = Story()
        machine.stop()
        try:
            play(story)
        except LabFault as fault:
            print(f"\nfault of the emulator, not of vfio-kit: {fault}", flush=True)
            if attempt == 2:
                return 1
            print("once more from the beginning", flush=True)
            continue
        finally:
            machine.stop()
        break
    verdict = (
        "all of it worked" if not story.wrong else "NOT as it should: " + "; ".join(story.wrong)
    )
    story.tell(f"Verdict: {verdict}")
    return 1 if story.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
