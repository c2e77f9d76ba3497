"""PURE: a plan becomes files. One table of outputs; decisions are made here, templates only print.

Escaping: XML is autoescaped, YAML scalars go through `tojson` (JSON is YAML), shell words through
shlex, and QEMU's options are JSON wherever QEMU takes it, so that no comma needs doubling.
"""

from collections.abc import Callable
from dataclasses import dataclass

from vfio_kit.model.vm import RenderedFile, SeedKeys, UpPlan
from vfio_kit.render.bundle import bundle_files
from vfio_kit.render.libvirt import libvirt_files
from vfio_kit.render.qemu import port_slot as port_slot
from vfio_kit.render.qemu import qemu_arguments as qemu_arguments
from vfio_kit.render.scripts import microvm_files, qemu_files
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


OUTPUTS: dict[str, Output] = {
    output.name: output
    for output in (
        Output("libvirt", "a libvirt domain, for virsh define", libvirt_files),
        Output("qemu", "a shell script that runs QEMU", qemu_files),
        Output("microvm", "a shell script that runs QEMU's smallest machine", microvm_files),
        Output("cloud-init", "the seed: user-data, meta-data, network-config", seed_files),
        Output("bundle", "a script that fills a folder for --bundle", bundle_files),
    )
}
