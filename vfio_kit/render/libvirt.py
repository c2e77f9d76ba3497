"""PURE: the domain's XML, for `virsh define`."""

from vfio_kit.model.vm import RenderedFile, SeedKeys, UpPlan
from vfio_kit.plan.domain import DISK_SLOT, NET_SLOT, SEED_SLOT
from vfio_kit.render.environment import environment
from vfio_kit.render.placement import pinning_of
from vfio_kit.render.qemu import BUNDLE_SLOT, ovmf_window_mib, port_slot


def libvirt_files(plan: UpPlan, _keys: SeedKeys) -> tuple[RenderedFile, ...]:
    """domain.xml"""
    domain = plan.domain
    text = (
        environment("templates")
        .get_template("libvirt/domain.xml.j2")
        .render(
            domain=domain,
            pinning=pinning_of(domain),
            ovmf_window_mib=ovmf_window_mib(domain),
            ports=[(bus, port_slot(bus)) for bus in domain.root_ports],
            net_slot=NET_SLOT,
            disk_slot=DISK_SLOT,
            seed_slot=SEED_SLOT,
            bundle_slot=BUNDLE_SLOT,
        )
    )
    return (RenderedFile("domain.xml", text),)
