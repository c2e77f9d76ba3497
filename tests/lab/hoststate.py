"""What a host must look like again after `down`: a command to run there, and a comparison."""

SNAPSHOT = r"""udevadm settle
echo "# drivers"; lspci -Dk | grep -E '^[0-9a-f]{4}:|Kernel driver in use'
echo "# overrides"
grep -H . /sys/bus/pci/devices/*/driver_override | grep -v '(null)' || true
echo "# hugepages"; grep -E '^(HugePages_|Hugetlb|Hugepagesize)' /proc/meminfo
echo "# domains"; virsh list --all
echo "# images"; stat -c "%A %U:%G %s %n" /var/lib/libvirt/images/*
echo "# mounts"; findmnt -rno TARGET,FSTYPE | sort
echo "# taps"; ip -br link show type tun | cut -d ' ' -f 1
echo "# processes"; ps -eo comm= | grep -c '^qemu-system' || true
"""
"""Shell, for the host: prints a text that is equal before `up` and after `down`."""


def differences(before: str, after: str) -> list[str]:
    """The lines that differ, each with `-` (was) or `+` (is now)."""
    old, new = before.splitlines(), after.splitlines()
    return [f"- {line}" for line in old if line not in new] + [
        f"+ {line}" for line in new if line not in old
    ]
