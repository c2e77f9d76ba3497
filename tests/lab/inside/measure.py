"""Runs on the lab's host: how long a guest takes to SSH when it is started without vfio-kit.

    python3 measure.py bare|microvm|virt-install FOLDER ADDRESS...

FOLDER holds what `vfio-kit render --name speed --output qemu --output microvm --output cloud-init`
wrote for the same image and the same PCI functions. Everything that `up` does is done here as well,
by hand: overlay, seed, drivers; hugepages have to be there. Prints JSON: what was done when, in
seconds since the begin, `greeting` (sshd says who it is) and `login` (a command has run) among
it. All is put back.
"""

import json
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

IMAGES = Path("/var/lib/libvirt/images")
NAME = "speed"
TAP = "tap-speed"
LIMIT = 600.0
PCI = Path("/sys/bus/pci")
MARKS: dict[str, float] = {}
BEGIN = time.monotonic()


def mark(what: str) -> None:
    """Note what has been done just now."""
    MARKS[what] = round(time.monotonic() - BEGIN, 2)


def sh(*argv: str) -> str:
    """Run a command that must succeed."""
    return subprocess.run(argv, check=True, text=True, capture_output=True).stdout


def make_disks(folder: Path) -> None:
    """The overlay and the seed, where the script expects them."""
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2"]
    sh(*overlay, "-b", str(IMAGES / "guest.qcow2"), str(IMAGES / f"{NAME}.qcow2"))
    seed = ["xorriso", "-as", "genisoimage", "-quiet", "-V", "cidata", "-J", "-R"]
    files = [str(folder / name) for name in ("user-data", "meta-data", "network-config")]
    sh(*seed, "-o", str(IMAGES / f"{NAME}-seed.iso"), *files)
    mark("disks")


def bind(address: str, driver: str) -> None:
    """Give a function to a driver; "" for the one that it had by itself."""
    function = PCI / "devices" / address
    (function / "driver_override").write_text(f"{driver}\n")
    if (function / "driver").exists():
        (function / "driver/unbind").write_text(address)
    (PCI / "drivers_probe").write_text(address)


def bare(folder: Path, addresses: list[str], name: str = "run.sh") -> Callable[[], None]:
    """QEMU with the arguments of our script, in libvirt's network, where `up` has its guest."""
    make_disks(folder)
    script = (folder / name).read_text()
    tap = f"-netdev tap,id=hostnet0,ifname={TAP},script=no,downscript=no,vhost=on"
    bridged = re.sub(r'-netdev "user,[^"]*"', tap, script)
    assert bridged != script
    (folder / "bridged.sh").write_text(bridged)
    sh("ip", "tuntap", "add", "dev", TAP, "mode", "tap")
    sh("ip", "link", "set", TAP, "master", "virbr0", "up")
    sh("modprobe", "vfio-pci")
    for address in addresses:
        bind(address, "vfio-pci")
    mark("drivers")
    command = ["bash", str(folder / "bridged.sh")]
    qemu = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    mark("started")

    def end() -> None:
        qemu.communicate(b"\x01cquit\n", timeout=60)
        for address in reversed(addresses):
            bind(address, "")
        sh("ip", "link", "del", TAP)

    return end


def microvm(folder: Path, addresses: list[str]) -> Callable[[], None]:
    """The same, as QEMU's smallest machine."""
    return bare(folder, addresses, "microvm.sh")


def virt_install(folder: Path, addresses: list[str]) -> Callable[[], None]:
    """A domain as virt-install makes it, of the same overlay, seed, kernel and functions.

    Not with --cloud-init: its seed is a SATA CD-ROM, which the kernel of Debian's cloud image does
    not see.
    """
    make_disks(folder)
    words = shlex.split((folder / "run.sh").read_text().split("qemu-system-x86_64 \\\n")[1])
    kernel, initrd, append = (
        words[words.index(f"-{n}") + 1] for n in ("kernel", "initrd", "append")
    )
    mac = json.loads(next(w for w in words if '"virtio-net-pci"' in w))["mac"]
    argv = ["virt-install", "--import", "--name", NAME, "--memory", "1024", "--vcpus", "1"]
    argv += ["--osinfo", "debian12", "--graphics", "none", "--noautoconsole"]
    argv += ["--disk", f"{IMAGES / NAME}.qcow2", "--disk", f"{IMAGES / NAME}-seed.iso,readonly=on"]
    argv += ["--network", f"network=default,mac={mac}"]
    argv += ["--boot", f"kernel={kernel},initrd={initrd},kernel_args={append}"]
    argv += [word for address in addresses for word in ("--hostdev", address)]
    sh(*argv)
    mark("started")

    def end() -> None:
        sh("virsh", "-q", "destroy", NAME)
        sh("virsh", "-q", "undefine", NAME)

    return end


def lease(mac: str) -> str | None:
    """The address that libvirt's network gave to the guest."""
    status = Path("/var/lib/libvirt/dnsmasq/virbr0.status")
    text = status.read_text() if status.exists() else ""
    entries = json.loads(text) if text.strip() else []
    return next((e["ip-address"] for e in entries if e["mac-address"] == mac), None)


def wait_for_greeting(mac: str) -> str:
    """Its address, as soon as sshd says who it is."""
    while time.monotonic() < BEGIN + LIMIT:
        address = lease(mac)
        if address:
            if "lease" not in MARKS:
                mark("lease")
            try:
                with socket.create_connection((address, 22), timeout=60) as connection:
                    if connection.recv(4) == b"SSH-":
                        mark("greeting")
                        return address
            except OSError:
                pass
        time.sleep(0.2)
    sys.exit(f"no SSH server within {LIMIT:.0f} s: {MARKS}")


def main(way: str, folder: Path, addresses: list[str]) -> None:
    """Start the guest, log in, and take it away again."""
    mac = re.search(r'"mac":"([^"]+)"', (folder / "run.sh").read_text())
    assert mac
    ways = {"bare": bare, "microvm": microvm, "virt-install": virt_install}
    end = ways[way](folder, addresses)
    try:
        address = wait_for_greeting(mac[1])
        options = ["BatchMode=yes", f"UserKnownHostsFile={folder / 'known_hosts'}"]
        options += [f"HostKeyAlias={NAME}", "ConnectTimeout=60"]
        argv = ["ssh", "-i", str(folder / "id_ed25519")]
        sh(*argv, *(word for o in options for word in ("-o", o)), f"debian@{address}", "true")
        mark("login")
    finally:
        end()
        for name in (f"{NAME}.qcow2", f"{NAME}-seed.iso"):
            (IMAGES / name).unlink()
    print(json.dumps(MARKS))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
