"""Runs on the lab's host: boots the guest image through libvirt, and says where the time goes.

    python3 start_guest.py [--boot direct|bios|uefi] [--memory MIB] [--keep] [ADDRESS ...]

It depends on nothing but libvirt, so that the lab can be proven without the package it tests.
ADDRESS is a PCI function to hand over, such as 0000:01:00.0.
"""

import argparse
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

IMAGES = Path("/var/lib/libvirt/images")
NAME = "lab-guest"
SERIAL_LOG = Path(f"/var/log/libvirt/qemu/{NAME}-serial.log")
WORK = Path("/root/lab-guest")
LIMIT = 600.0
CMDLINE = (
    "root=LABEL=cloudimg-rootfs ro console=ttyS0 quiet loglevel=3 "
    "systemd.show_status=0 mitigations=off"
)
REPORT = (
    "cloud-init status --wait --format json; echo; uname -r; lspci -nn | grep -i nvidia; "
    "findmnt -no SOURCE,SIZE /; test -d /sys/firmware/efi && echo booted by UEFI; "
    "cut -d' ' -f1 /proc/uptime; systemd-analyze; systemctl --failed --no-legend; "
    "systemd-analyze blame --no-pager | head -40; systemd-analyze critical-chain --no-pager; "
    "cloud-init analyze blame | head -30; cloud-init analyze boot"
)


def sh(*argv: str, check: bool = True) -> str:
    """Run a command and return its output."""
    done = subprocess.run(argv, text=True, capture_output=True, check=False)
    if check and done.returncode:
        sys.exit(f"{' '.join(argv)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def write_seed() -> None:
    """Write the NoCloud seed: our key to log in with, and the guest's own host key."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    for name in ("login", "host"):
        sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(WORK / name))
    private = "".join(f"    {line}\n" for line in (WORK / "host").read_text().splitlines())
    (WORK / "user-data").write_text(
        "#cloud-config\n"
        f"ssh_authorized_keys:\n  - {(WORK / 'login.pub').read_text()}"
        f"ssh_keys:\n  ed25519_private: |\n{private}"
        f"  ed25519_public: {(WORK / 'host.pub').read_text()}"
    )
    (WORK / "meta-data").write_text(f"instance-id: {time.time_ns()}\nlocal-hostname: {NAME}\n")
    seed = ["xorriso", "-as", "genisoimage", "-quiet", "-V", "cidata", "-J", "-r"]
    files = [str(WORK / "user-data"), str(WORK / "meta-data")]
    sh(*seed, "-o", str(IMAGES / f"{NAME}-seed.iso"), *files)


def hostdev(index: int, address: str, count: int) -> str:
    """Return libvirt's element for one function; all of them share the guest's slot 05:00."""
    domain, bus, rest = address.split(":")
    slot, function = rest.split(".")
    multi = " multifunction='on'" if index == 0 and count > 1 else ""
    return (
        "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
        f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/>"
        f"</source><address type='pci' domain='0' bus='5' slot='0' function='{index}'{multi}/>"
        "</hostdev>"
    )


def domain_xml(boot: str, memory: int, addresses: list[str]) -> str:
    """Return a domain with as few devices as can be: each costs boot time."""
    firmware, kernel = "", ""
    if boot == "direct":
        kernel = (
            f"<kernel>{IMAGES}/guest-vmlinuz</kernel><initrd>{IMAGES}/guest-initrd</initrd>"
            f"<cmdline>{CMDLINE}</cmdline>"
        )
    if boot == "uefi":
        firmware = "<firmware><feature enabled='no' name='secure-boot'/></firmware>"
    hostdevs = "".join(hostdev(i, a, len(addresses)) for i, a in enumerate(addresses))
    return f"""<domain type='kvm'><name>{NAME}</name>
<memory unit='MiB'>{memory}</memory><vcpu>1</vcpu>
<os{" firmware='efi'" if boot == "uefi" else ""}>
<type arch='x86_64' machine='q35'>hvm</type>{firmware}{kernel}</os>
<features><acpi/><apic/></features><cpu mode='host-passthrough'/>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<controller type='pci' model='pcie-root'/><controller type='usb' model='none'/>
<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe'/>
<source file='{IMAGES}/{NAME}.qcow2'/><target dev='vda' bus='virtio'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='{IMAGES}/{NAME}-seed.iso'/><target dev='vdb' bus='virtio'/><readonly/></disk>
<interface type='network'><source network='default'/><model type='virtio'/><rom bar='off'/>
</interface><serial type='pty'><log file='{SERIAL_LOG}'/></serial>
{hostdevs}<memballoon model='none'/></devices></domain>"""


def wait_for_address(end: float) -> str:
    """Return the address that the guest got from libvirt's network."""
    while time.monotonic() < end:
        for word in sh("virsh", "-q", "domifaddr", NAME, check=False).split():
            if word.count(".") == 3:
                return word.split("/")[0]
        time.sleep(1)
    sys.exit(f"no lease within {LIMIT:.0f} s: see {SERIAL_LOG}")


def wait_for_banner(address: str, end: float) -> None:
    """Wait until sshd greets.  Its first answer may take 20 s: do not hurry it."""
    while time.monotonic() < end:
        try:
            with socket.create_connection((address, 22), timeout=60) as sock:
                if sock.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.5)
    sys.exit(f"no SSH within {LIMIT:.0f} s: see {SERIAL_LOG}")


def report(address: str) -> str:
    """Log in once, wait for cloud-init in that one connection, and return what it says."""
    known = WORK / "known_hosts"
    known.write_text(f"{address} {(WORK / 'host.pub').read_text()}")
    argv = ["ssh", "-i", str(WORK / "login"), "-o", f"UserKnownHostsFile={known}"]
    argv += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=60", f"ubuntu@{address}", REPORT]
    return sh(*argv, check=False)


def driver(address: str) -> str:
    """Return the driver that holds a function."""
    link = Path(f"/sys/bus/pci/devices/{address}/driver")
    return link.resolve().name if link.exists() else "(no driver)"


def main() -> None:
    """Boot the guest, report, and take it away again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boot", choices=("direct", "bios", "uefi"), default="direct")
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB")
    parser.add_argument("--keep", action="store_true", help="leave the guest running")
    parser.add_argument("address", nargs="*")
    args = parser.parse_args()
    sh("virsh", "destroy", NAME, check=False)
    sh("virsh", "undefine", NAME, "--nvram", check=False)
    write_seed()
    disk = str(IMAGES / f"{NAME}.qcow2")
    backing = str(IMAGES / "guest.qcow2")
    sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", backing, disk, "6G")
    (WORK / "domain.xml").write_text(domain_xml(args.boot, args.memory, args.address))
    sh("virsh", "define", str(WORK / "domain.xml"))
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)

    sh("virsh", "start", NAME)
    say("started; " + ", ".join(f"{a} -> {driver(a)}" for a in args.address))
    address = wait_for_address(started + LIMIT)
    say(f"lease {address}")
    wait_for_banner(address, started + LIMIT)
    say("SSH banner")
    text = report(address)
    say("cloud-init is done, and said:\n" + text)
    if not args.keep:
        sh("virsh", "destroy", NAME)
        sh("virsh", "undefine", NAME, "--nvram")
        say("destroyed; " + ", ".join(f"{a} -> {driver(a)}" for a in args.address))


if __name__ == "__main__":
    main()
