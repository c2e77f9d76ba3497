"""What a host must look like again after `down`: a command to run there, and a comparison."""

SNAPSHOT = r"""udevadm settle
cd /sys/bus/pci/devices
echo "# devices and their drivers"
find */ -maxdepth 1 \( -name class -printf '%h\n' -o -name driver -printf '%h has %l\n' \) | sort
echo "# overrides"; grep . */driver_override | grep -v '(null)' || true
echo "# hugepages"
grep -r . /sys/kernel/mm/hugepages /sys/devices/system/node/node*/hugepages | sort
find /dev/hugepages* -mindepth 1 ! -path '*/libvirt' ! -path '*/libvirt/qemu'
echo "# domains and networks"; virsh -q 'list --all; net-list --all'
echo "# files"
find /var/lib/libvirt/images -mindepth 1 -exec stat -c "%A %U:%G %s %n" {} + | sort -k 4
find /etc/libvirt /etc/systemd/system /etc/udev/rules.d /etc/modprobe.d /etc/sysctl.d \
  /var/lib/libvirt/qemu/nvram -printf '%M %p %l\n' 2>/dev/null | sort
echo "# mounts"; findmnt -rno TARGET,FSTYPE | sort
echo "# taps"; ip -br link show type tun | cut -d ' ' -f 1
echo "# processes"
ps -eo comm= | grep -E '^(qemu-|vfio-kit|xorriso|strace)' | sort | uniq -c || true
"""
"""Shell, for the host: prints a text that is equal before `up` and after `down`.

The leases of libvirt's networks may differ, and so may its own logs and caches.
"""

RECORDS = r"""echo "# records"
find /var/lib/vfio-kit -mindepth 1 -printf '%M %p\n' 2>/dev/null | sort
ls /var/log/libvirt/qemu/*.console 2>/dev/null || true
"""
"""What is equal too after `down --purge`; `down` keeps a record to be read."""


def differences(before: str, after: str) -> list[str]:
    """The lines that differ, each with `-` (was) or `+` (is now)."""
    old, new = before.splitlines(), after.splitlines()
    return [f"- {line}" for line in old if line not in new] + [
        f"+ {line}" for line in new if line not in old
    ]
