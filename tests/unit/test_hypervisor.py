"""What libvirt says of a network, by its own test driver."""

import libvirt
import pytest

from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.errors import HypervisorError

NO_DHCP = "<network><name>bare</name><ip address='10.1.2.1' netmask='255.255.255.0'/></network>"


def test_a_network_that_libvirt_has_not_is_named() -> None:
    with Hypervisor("test:///default") as hypervisor:
        hypervisor.require_network("default")
        with pytest.raises(HypervisorError, match="no network 'nowhere'") as caught:
            hypervisor.require_network("nowhere")
    assert caught.value.hint.startswith("virsh net-list --all")


def test_a_network_is_active_and_gives_out_addresses() -> None:
    with Hypervisor("test:///default") as hypervisor:
        defined = libvirt.open("test:///default").networkDefineXML(NO_DHCP)
        try:
            with pytest.raises(HypervisorError, match="is not active") as caught:
                hypervisor.require_network("bare")
            assert caught.value.hint.startswith("start it: virsh net-start bare")
            defined.create()
            with pytest.raises(HypervisorError, match="gives out no addresses"):
                hypervisor.require_network("bare")
            defined.destroy()
        finally:
            defined.undefine()
