"""What is baked in the virtual host: a bundle that is made here, and the words of the commands.

The host has no network: its packages come from a bundle, made by the script that `render` writes.
"""

import json
import subprocess
from pathlib import Path

from .labhost import LabHost
from .paths import cache_dir

IMAGES = "/var/lib/libvirt/images"
STATE = "/var/lib/vfio-kit"
GOLDEN = f"{IMAGES}/golden.qcow2"
PACKAGES = ("hello", "tree", "file")
MACHINE = (
    f"--guest debian-12 --kernel {IMAGES}/guest-vmlinuz --initrd {IMAGES}/guest-initrd "
    "--driver none --cpus 1 --memory 1024"
)
BASE = f"{MACHINE} --image {IMAGES}/guest.qcow2 --bundle /root/bundle"
WANTED = " ".join(f"--package {name}" for name in PACKAGES)
MOST = 3000.0
"""Seconds for a boot with an installation, on the slowest machine."""

_REBOOTS = """Package: reboots-once
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: a package that reboots the machine when it is installed
"""


def bundle_on(host: LabHost) -> None:
    """A bundle on the host, made of Debian's own packages and of one that reboots."""
    if host.run("test -e /root/bundle/SHA256SUMS", check=False).returncode == 0:
        return
    host.run("rm -rf /root/render; mkdir /root/render")
    host.run(
        f"vfio-kit render --name x --gpu 01:00.0 {BASE} {WANTED} --output bundle -o /root/render"
    )
    folder = cache_dir() / "bundle"
    folder.mkdir(parents=True, exist_ok=True)
    host.get("/root/render/make-bundle.sh", folder / "make-bundle.sh")
    made = folder / "bundle"
    subprocess.run(["bash", folder / "make-bundle.sh", made], check=True, timeout=600)
    _add_package(made, "reboots-once", _REBOOTS, "systemd-run --on-active=1s systemctl reboot")
    host.put(made, "/root/bundle")


def _add_package(bundle: Path, name: str, control: str, postinst: str) -> None:
    """Builds a package into the bundle, with its place in the index and in the sums."""
    tree, deb = bundle.parent / name, bundle / "apt" / f"{name}_1.0_all.deb"
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / "DEBIAN/control").write_text(control)
    (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\n{postinst}\n")
    (tree / "DEBIAN/postinst").chmod(0o755)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, deb], check=True)
    index = (
        f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {_sha256(deb)}\n\n"
    )
    with (bundle / "apt/Packages").open("a") as stream:
        stream.write(index)
    files = sorted(path for path in (bundle / "apt").iterdir())
    sums = "".join(f"{_sha256(path)}  {path.relative_to(bundle)}\n" for path in files)
    (bundle / "SHA256SUMS").write_text(sums)


def _sha256(path: Path) -> str:
    done = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True)
    return done.stdout.split()[0]


def free_gpu(host: LabHost) -> None:
    """Takes VMs away that a failed test left, or no other would get the GPU."""
    for vm in json.loads(host.run("vfio-kit list --json").stdout)["vms"]:
        down(host, vm["name"])


def down(host: LabHost, name: str) -> None:
    host.run(f"vfio-kit down {name} --purge", timeout=300)
