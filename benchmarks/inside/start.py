"""Runs on the virtual host: how long a guest takes to SSH, by vfio-kit and without it.

    python3 start.py bare|microvm|virt-install FOLDER ADDRESS...
    python3 start.py up OPTION...

FOLDER holds what `vfio-kit render --name speed --output qemu --output microvm --output cloud-init`
wrote for the same image and the same PCI functions. Everything that `up` does is done without it
as well: overlay, seed, drivers; hugepages have to be there. Prints JSON: what was done when, in
seconds since the begin; `running` (the guest's CPU runs), `greeting` (sshd says who it is) and
`login` (a command has run) among it. All is put back.
"""

import json
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

IMAGES = Path("/var/lib/libvirt/images")
NAME = "speed"
TAP = "tap-speed"
LIMIT = 600.0
PCI = Path("/sys/bus/pci")
QMP = "/run/speed.qmp"
MARKS: dict[str, float] = {}
BEGIN = 0.0


def begin() -> None:
    """From here on the time counts."""
    global BEGIN
    BEGIN = time.monotonic()


def mark(what: str) -> None:
    """Note what has been done just now, for the first time."""
    MARKS.setdefault(what, round(time.monotonic() - BEGIN, 2))


def listen_to_qemu() -> None:
    """Mark when QEMU, which is about to be started, says that the guest's CPU runs.

    It answers a command once its devices and its memory are there, and the CPU with them.
    """

    def ask() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            while connection.connect_ex(QMP):
                time.sleep(0.05)
            connection.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-status"}')
            for line in connection.makefile():
                if '"running": true' in line:
                    mark("running")
                    return

    threading.Thread(target=ask, daemon=True).start()


def listen_to_libvirt() -> None:
    """Mark when libvirt says that a domain's CPU runs; returns when it is listened to."""
    import libvirt

    libvirt.virEventRegisterDefaultImpl()
    connection = libvirt.open(None)
    runs = (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_RESUMED)

    def event(_connection: object, _domain: object, kind: int, _detail: int, _: object) -> None:
        if kind in runs:
            mark("running")

    lifecycle = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
    connection.domainEventRegisterAny(None, lifecycle, event, None)

    def turn() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=turn, daemon=True).start()


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
    begin()
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
    listen_to_qemu()
    command = ["bash", str(folder / "bridged.sh"), "-qmp", f"unix:{QMP},server=on,wait=off"]
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
    listen_to_libvirt()
    begin()
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


def up(options: list[str]) -> None:
    """The guest by vfio-kit, whose report has the rest of the times; taken down again."""
    listen_to_libvirt()
    begin()
    document = json.loads(sh("vfio-kit", "up", NAME, *options, "--json"))
    mark("ended")
    sh("vfio-kit", "down", NAME, "--purge")
    # What the interpreter takes to get to the first line of `up`, and from its last, belongs to it.
    before = MARKS["ended"] - document["seconds"]
    MARKS["step: interpreter"] = round(before, 2)
    for step in document["steps"]:
        what, end = step["what"], round(before + step["begin"] + step["seconds"], 2)
        MARKS.setdefault(f"step: {what}", step["seconds"])
        if what.startswith("SSH server greets"):
            MARKS["greeting"] = end
        elif what.startswith("logged in"):
            MARKS["login"] = end
    print(json.dumps(MARKS))


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
    if sys.argv[1] == "up":
        up(sys.argv[2:])
    else:
        main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
