"""What is read of libvirt's XML."""

import pytest

from vfio_kit.apply.libvirt_xml import (
    boot_files,
    cpus_of,
    gives_addresses,
    host_functions,
    io_thread_cpus,
)
from vfio_kit.model import PciAddress

_DOMAIN = """<domain><cputune><iothreadpin iothread='1' cpuset='0-1,40'/></cputune><devices>
<hostdev mode='subsystem' type='pci'><source>
<address domain='0x0000' bus='0x01' slot='0x00' function='0x1'/></source></hostdev>
<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>
</devices></domain>"""


@pytest.mark.parametrize(
    ("cpuset", "cpus"),
    [("3", {3}), ("0-2", {0, 1, 2}), ("8-9,40-41", {8, 9, 40, 41}), ("1,3", {1, 3})],
)
def test_a_set_of_cpus(cpuset: str, cpus: set[int]) -> None:
    assert cpus_of(cpuset) == cpus


def test_a_domain_has_functions_of_the_host_and_a_pinned_io_thread() -> None:
    assert host_functions(_DOMAIN) == (PciAddress.parse("01:00.1"),)
    assert io_thread_cpus(_DOMAIN) == {0, 1, 40}
    assert io_thread_cpus("<domain/>") == frozenset()


def test_a_domain_is_started_with_a_kernel_or_by_firmware() -> None:
    direct = "<domain><os><kernel>/k</kernel><initrd>/i</initrd><cmdline>x</cmdline></os></domain>"
    assert boot_files(direct) == ("/k", "/i")
    assert boot_files("<domain><os firmware='efi'/></domain>") == ()


def test_a_network_gives_addresses_where_it_has_dhcp() -> None:
    assert gives_addresses("<network><ip><dhcp><range/></dhcp></ip></network>")
    assert not gives_addresses("<network><ip/></network>")
