"""TABLE: the options that make up a VM's spec, and those of an image's."""

from pathlib import Path
from typing import Any

import click

from vfio_kit.cli import completing
from vfio_kit.knowledge.provisioning import CUDAS, DRIVERS
from vfio_kit.model.vm import CudaWay

SPEC_OPTIONS: tuple[tuple[str, Any], ...] = (
    (
        "gpus",
        click.option(
            "--gpu",
            "gpus",
            multiple=True,
            metavar="ADDR",
            shell_complete=completing.gpus,
            help="GPU to hand over, as in 01:00.0; may be repeated.",
        ),
    ),
    (
        "accept_loss",
        click.option(
            "--accept-loss",
            multiple=True,
            metavar="ADDR",
            shell_complete=completing.gpus,
            help="Hand this device over although the host loses something with it (its console, "
            "a filesystem, a route), or cannot trust its isolation; may be repeated.",
        ),
    ),
    (
        "guest",
        click.option(
            "--guest",
            metavar="SYSTEM",
            shell_complete=completing.guests,
            help="Guest system: ubuntu-22.04 (default) or debian-12.",
        ),
    ),
    (
        "image",
        click.option(
            "--image",
            type=click.Path(path_type=Path),
            shell_complete=completing.images,
            help="The guest's cloud image; never written to.",
        ),
    ),
    (
        "driver",
        click.option(
            "--driver",
            type=click.Choice(DRIVERS),
            help="NVIDIA driver that cloud-init installs; -open: with the open kernel modules; "
            "auto: the newest that the GPU takes.  [default: 470]",
        ),
    ),
    (
        "cuda",
        click.option(
            "--cuda",
            type=click.Choice(CUDAS),
            help="CUDA toolkit.  [default: 11.4 for driver 470, else the driver's own]",
        ),
    ),
    (
        "cuda_way",
        click.option(
            "--cuda-way",
            type=click.Choice([way.value for way in CudaWay]),
            help="CUDA by single packages of NVIDIA's repository, or by NVIDIA's installer.  "
            "[default: packages]",
        ),
    ),
    (
        "packages",
        click.option(
            "--package",
            "packages",
            multiple=True,
            metavar="NAME",
            help="One more package of the guest's distribution, as NAME or NAME=VERSION; may be "
            "repeated.",
        ),
    ),
    (
        "bundle",
        click.option(
            "--bundle",
            type=click.Path(path_type=Path),
            metavar="DIR",
            shell_complete=completing.any_folder,
            help="Install from this folder, without network in the guest; vfio-kit render "
            "--output bundle makes one.",
        ),
    ),
    ("cpus", click.option("--cpus", type=int, metavar="N", help="Virtual CPUs.  [default: 4]")),
    (
        "memory",
        click.option(
            "--memory",
            type=int,
            metavar="MIB",
            help="Guest memory.  [default: what the GPUs need, 8192 for an M4000]",
        ),
    ),
    (
        "hugepages",
        click.option(
            "--hugepages",
            type=click.Choice(["2M", "1G", "off"]),
            help="Page size of the guest's memory.  [default: 2M]",
        ),
    ),
    (
        "disk",
        click.option(
            "--disk",
            type=int,
            metavar="GIB",
            help="Size of the guest's disk.  [default: 20 where something is installed, 30 with "
            "CUDA by runfile, else the image's]",
        ),
    ),
    (
        "boot.mode",
        click.option(
            "--boot",
            type=click.Choice(["direct", "bios", "uefi"]),
            help="How the kernel is started.  [default: direct with --kernel, else bios]",
        ),
    ),
    (
        "boot.kernel",
        click.option(
            "--kernel", type=click.Path(path_type=Path), help="Guest kernel for a direct boot."
        ),
    ),
    (
        "boot.initrd",
        click.option(
            "--initrd", type=click.Path(path_type=Path), help="Guest initrd for a direct boot."
        ),
    ),
    (
        "network.name",
        click.option("--network", metavar="NAME", help="libvirt network.  [default: default]"),
    ),
    (
        "ssh.identity",
        click.option(
            "--identity",
            type=click.Path(path_type=Path),
            help="A private SSH key of yours to log in with.  [default: one is made for the VM]",
        ),
    ),
    (
        "autostart",
        click.option(
            "--autostart/--no-autostart",
            default=None,
            help="Start the VM when the host boots.  [default: no]",
        ),
    ),
    (
        "placement.pin",
        click.option(
            "--pin/--no-pin",
            default=None,
            help="vCPUs on cores of their own, near the GPU.  [default: pin]",
        ),
    ),
    (
        "placement.node",
        click.option(
            "--numa-node",
            type=int,
            metavar="N",
            help="NUMA node of the guest's memory and CPUs.  [default: the GPU's]",
        ),
    ),
)
"""Each option of a spec: its key in the spec file, then the click option."""

PARAMETER = {
    "boot.mode": "boot",
    "boot.kernel": "kernel",
    "boot.initrd": "initrd",
    "network.name": "network",
    "ssh.identity": "identity",
    "placement.pin": "pin",
    "placement.node": "numa_node",
}
"""Key in the spec file -> the parameter of the command, where that has another name."""


_NOT_FOR_BAKE = (
    *("gpus", "accept_loss", "memory", "hugepages", "autostart", "ssh.identity"),
    *("placement.pin", "placement.node"),  # a VM for once is the kernel's to place
)
BAKE_OPTIONS = (
    # The GPUs of a spec file stay where they are, and a VM without one pins no memory.
    *(row for row in SPEC_OPTIONS if row[0] not in _NOT_FOR_BAKE),
    (
        "memory",
        click.option("--memory", type=int, metavar="MIB", help="The VM's memory.  [default: 4096]"),
    ),
    (
        "capabilities",
        click.option(
            "--cc",
            "capabilities",
            multiple=True,
            metavar="X.Y",
            shell_complete=completing.capabilities,
            help="Compute capability of a card that the image is for, as in 5.2; may be repeated.",
        ),
    ),
)
