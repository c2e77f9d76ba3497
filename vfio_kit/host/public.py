"""Names as they may be told: kept in a snapshot, printed, sent with a report.

A mount point names users, customers and projects; an interface may be named after its MAC address.
What is well known of a name stays, the rest becomes "…".
"""

import re

HIDDEN = "…"

_KNOWN = """
/ /bin /boot /boot/efi /boot/firmware /boot/grub /dev /dev/shm /efi /esp /etc /gnu /gnu/store
/home /lib /lib/modules /media /mnt /nix /nix/store /opt /ostree /proc /root /run /run/initramfs
/run/initramfs/live /run/live /run/live/medium /run/live/rootfs /run/media /run/user /sbin /snap
/srv /swap /swap.img /swap/swapfile /swapfile /sys /sysroot /tmp /usr /usr/lib /usr/lib/modules
/usr/local /usr/share /var /var/cache /var/lib /var/lib/ceph /var/lib/containerd
/var/lib/containers /var/lib/containers/storage /var/lib/docker /var/lib/etcd /var/lib/flatpak
/var/lib/incus /var/lib/kubelet /var/lib/libvirt /var/lib/libvirt/images /var/lib/longhorn
/var/lib/lxc /var/lib/lxd /var/lib/machines /var/lib/mysql /var/lib/postgresql /var/lib/rancher
/var/lib/snapd /var/lib/vz /var/log /var/log/audit /var/log/journal /var/opt /var/snap
/var/spool /var/swap /var/tmp /var/www
"""
"""Of the Filesystem Hierarchy Standard 3.0, distributions' installers and well-known services."""
_KNOWN_PATHS = frozenset(_KNOWN.split())

_OF_A_MAC = re.compile(r"([a-z]{2}x)[0-9a-f]{12,40}")
"""systemd's names from a MAC address (systemd.net-naming-scheme(7)): enx…, wlx…, wwx…, ibx…"""

_USUAL_INTERFACE = re.compile(
    r"([a-z]{2,10}[0-9]{1,5}|(en|wl|ww|ib|sl)[oPpbsfdnvtuiX0-9]{1,20}|br-(ex|int|lan|tun|[0-9a-f]{12})"
    r"|lan|wan|dmz|mgmt|lo|br|ovs-system)([.][0-9]{1,4})?"
)
"""Names that the kernel, systemd and network managers give: a kind, and numbers of places."""
_KIND_OF_INTERFACE = re.compile(r"br|bond|team|vlan|wg|tun|tap|eth")

_NAMED_ARRAY = re.compile(r"md_.*")
"""mdadm.conf(5), CREATE names=yes: the kernel's name of an array holds the name it was given."""

_UNPRINTABLE = re.compile(rf"[^\x21-\x7e{HIDDEN}]")


def public_path(path: str) -> str:
    """A mount point, up to its last well-known folder: /home/somebody becomes /home/…"""
    folder = "/" + "/".join(part for part in path.split("/") if part)
    if folder in _KNOWN_PATHS:
        return folder
    while folder not in _KNOWN_PATHS:
        folder = folder.rpartition("/")[0] or "/"
    return f"{folder.rstrip('/')}/{HIDDEN}"


def without_mac(name: str) -> str:
    """A name without the MAC address that it may hold; what is public already stays as it is."""
    return _OF_A_MAC.sub(rf"\1{HIDDEN}", _UNPRINTABLE.sub("?", name))


def public_interface(name: str) -> str:
    """An interface's name without a MAC address (enx…), and without the owner's word for it:
    wg-alice is wg…, customer is …; what is public already stays as it is."""
    name = without_mac(name)
    if HIDDEN in name or _USUAL_INTERFACE.fullmatch(name):
        return name
    kind = _KIND_OF_INTERFACE.match(name)
    return f"{kind[0] if kind else ''}{HIDDEN}"


def public_block(name: str) -> str:
    """A block device's name in the kernel, without the name that an operator gave an array."""
    return _NAMED_ARRAY.sub(f"md_{HIDDEN}", _UNPRINTABLE.sub("?", name))
