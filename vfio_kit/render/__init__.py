"""PURE: a plan becomes files. One table of outputs; decisions are made here, templates only print.

Escaping: XML is autoescaped, YAML scalars go through `tojson` (JSON is YAML), shell words through
shlex, and QEMU's options are JSON wherever QEMU takes it, so that no comma needs doubling.
"""

from collections.abc import Callable
from dataclasses import dataclass

from vfio_kit.model.vm import BootMode, RenderedFile, SeedKeys, UpPlan
from vfio_kit.plan.domain import DISK_SLOT, NET_SLOT, SEED_SLOT
from vfio_kit.render.bundle import bundle_files
from vfio_kit.render.environment import environment
from vfio_kit.render.qemu import BUNDLE_SLOT, OVMF_VARS
from vfio_kit.render.qemu import port_slot as port_slot
from vfio_kit.render.qemu import qemu_arguments as qemu_arguments
from vfio_kit.render.seed import seed_files


@dataclass(frozen=True, slots=True)
class Output:
    """A row of the table of outputs."""

    name: str
    what: str
    render: Callable[[UpPlan, SeedKeys], tuple[RenderedFile, ...]]


_NO_KEYS = SeedKeys("", "", ())


def render(name: str, plan: UpPlan, keys: SeedKeys = _NO_KEYS) -> tuple[RenderedFile, ...]:
    """The files of one output of the table; raises KeyError for a name that it does not have.

    keys are needed by the seed alone.
    """
    return OUTPUTS[name].render(plan, keys)


def _libvirt(plan: UpPlan, _keys: SeedKeys) -> tuple[RenderedFile, ...]:
    domain = plan.domain
    text = (
        environment("templates")
        .get_template("libvirt/domain.xml.j2")
        .render(
            domain=domain,
            ports=[(bus, port_slot(bus)) for bus in domain.root_ports],
            net_slot=NET_SLOT,
            disk_slot=DISK_SLOT,
            seed_slot=SEED_SLOT,
            bundle_slot=BUNDLE_SLOT,
        )
    )
    return (RenderedFile("domain.xml", text),)


def _qemu(plan: UpPlan, _keys: SeedKeys) -> tuple[RenderedFile, ...]:
    domain = plan.domain
    text = (
        environment("templates")
        .get_template("qemu/run.sh.j2")
        .render(
            plan=plan,
            domain=domain,
            uefi=domain.boot.mode is BootMode.UEFI,
            ovmf_vars=OVMF_VARS,
            arguments=qemu_arguments(domain),
        )
    )
    return (RenderedFile("run.sh", text, 0o755),)


OUTPUTS: dict[str, Output] = {
    output.name: output
    for output in (
        Output("libvirt", "a libvirt domain, for virsh define", _libvirt),
        Output("qemu", "a shell script that runs QEMU", _qemu),
        Output("cloud-init", "the seed: user-data, meta-data, network-config", seed_files),
        Output("bundle", "a script that fills a folder for --bundle", bundle_files),
    )
}
