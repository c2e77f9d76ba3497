"""Guest systems: one row each, and one folder of templates in cloud-init/ named like the row.

Sources: cloud-images.ubuntu.com and cloud.debian.org (image layouts, default users),
cloud-init's default user per distribution.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel that stays in a guest once a driver was built for it."""

    series: str
    """What `uname -r` begins with."""
    never: tuple[str, ...]
    """Patterns of packages that would bring another series, pinned to never."""
    unfit: tuple[str, ...]
    """What `uname -r` ends with where nobody is known to have built a driver: kernels that leave
    parts out."""
    source: str


@dataclass(frozen=True, slots=True)
class Guest:
    """What differs between guest systems outside their cloud-init."""

    id: str
    title: str
    user: str
    """The default user that cloud-init creates."""
    root: str
    """The kernel's root= for a direct kernel boot."""
    kernel: Kernel


GUESTS: dict[str, Guest] = {
    guest.id: guest
    for guest in (
        Guest(
            "ubuntu-22.04",
            "Ubuntu 22.04 LTS",
            "ubuntu",
            # The root label is Ubuntu's own; LABEL= is resolved by its initrd.
            "LABEL=cloudimg-rootfs",
            # linux-virtual is the general kernel without its extra modules. Minimal images boot
            # linux-kvm, which leaves out virtual terminals and whole subsystems:
            # https://github.com/canonical/mir/issues/518,
            # https://github.com/zonca/jupyterhub-deploy-kubernetes-jetstream/issues/80
            Kernel(
                "5.15.",
                ("linux-*-hwe-22.04*",),
                ("-kvm",),
                "https://packages.ubuntu.com/jammy-updates/linux-image-virtual",
            ),
        ),
        Guest(
            "debian-12",
            "Debian 12",
            "debian",
            # Debian's cloud images have no root label; p1 of the first virtio disk is the root.
            "/dev/vda1",
            Kernel("6.1.", (), (), "https://packages.debian.org/bookworm/linux-image-cloud-amd64"),
        ),
    )
}

DEFAULT_GUEST = "ubuntu-22.04"

DIRECT_BOOT_CMDLINE = "ro console=ttyS0 quiet loglevel=3 systemd.show_status=0"
"""Behind root=: a line on the serial console costs VM exits, so the console stays quiet."""
