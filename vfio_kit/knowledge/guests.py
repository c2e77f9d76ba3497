"""Guest systems: one row each, and one folder of templates in cloud-init/ named like the row.

Sources: cloud-images.ubuntu.com and cloud.debian.org (image layouts, default users),
cloud-init's default user per distribution.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guest:
    """What differs between guest systems outside their cloud-init."""

    id: str
    title: str
    user: str
    """The default user that cloud-init creates."""
    root: str
    """The kernel's root= for a direct kernel boot."""


GUESTS: dict[str, Guest] = {
    guest.id: guest
    for guest in (
        # The root label is Ubuntu's own; LABEL= is resolved by its initrd.
        Guest("ubuntu-22.04", "Ubuntu 22.04 LTS", "ubuntu", "LABEL=cloudimg-rootfs"),
        # Debian's cloud images have no root label; p1 of the first virtio disk is the root.
        Guest("debian-12", "Debian 12", "debian", "/dev/vda1"),
    )
}

DEFAULT_GUEST = "ubuntu-22.04"

DIRECT_BOOT_CMDLINE = "ro console=ttyS0 quiet loglevel=3 systemd.show_status=0"
"""Behind root=: a line on the serial console costs VM exits, so the console stays quiet."""
