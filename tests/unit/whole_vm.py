"""A VM whose `up` went to its end: real files and journal, a domain of libvirt's test driver."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt

from tests.machines import K80
from tests.unit.test_journal import RECORD
from tests.unit.values import function, host
from vfio_kit.apply.boot import boot_id
from vfio_kit.apply.hypervisor import MARK, Hypervisor
from vfio_kit.apply.journal import VmFolder
from vfio_kit.apply.steps import start_data
from vfio_kit.model import Host
from vfio_kit.model.vm import StepKind
from vfio_kit.plan import identity_of

NOBODY = "0000:fe:1e.0"
"""No machine has a function there."""
GPU = function(NOBODY, K80, 6)
UUID = RECORD.uuid
XML = (
    f"<domain type='test'><name>vm</name><uuid>{UUID}</uuid>"
    f"<metadata><vk:vm xmlns:vk='{MARK}'/></metadata>"
    "<memory>65536</memory><os><type>hvm</type></os></domain>"
)


@contextmanager
def the_test_driver() -> Iterator[Hypervisor]:
    """libvirt's own test driver; its domains exist in memory alone, as long as it is connected."""
    with Hypervisor("test:///default") as hypervisor:
        yield hypervisor
        hypervisor.destroy("vm")
        forget(hypervisor)


def forget(hypervisor: Hypervisor) -> None:
    """`virsh undefine`; ours asks for the UEFI variables as well, which the test driver refuses."""
    if hypervisor.domain("vm") is not None:
        libvirt.open("test:///default").lookupByName("vm").undefine()


def this_host() -> Host:
    """The host with the card that the VM was made with."""
    return host(GPU)


def whole_vm(tmp_path: Path, hypervisor: Hypervisor, **record: Any) -> VmFolder:
    """It runs, somebody has logged in, and nothing of it is on this machine but these files."""
    images = tmp_path / "images"
    images.mkdir()
    disk, seed = images / "vm.qcow2", images / "vm-seed.iso"
    folder = VmFolder(tmp_path / "state" / "vm")
    made = {"disk": str(disk), "seed": str(seed), "address": "192.168.122.9"}
    devices = (identity_of(GPU),)
    folder.create(replace(RECORD, **({"devices": devices, "gpus": (NOBODY,)} | made | record)))
    step(folder, StepKind.STATE)
    folder.domain_xml.write_text(XML)
    step(folder, StepKind.KEYS, files=[str(folder.identity), str(folder.known_hosts)])
    step(folder, StepKind.DISK, files=[str(disk)])
    step(folder, StepKind.SEED, files=[str(seed)])
    for path in (folder.identity, folder.known_hosts, disk, seed):
        path.touch()
    step(folder, StepKind.DEFINE, domain="vm", uuid=UUID)
    hypervisor.define(XML)
    started(folder)
    hypervisor.start("vm")
    step(folder, StepKind.WAIT)
    return folder


def step(folder: VmFolder, kind: StepKind, **data: Any) -> None:
    """A step that was done."""
    folder.begin(kind, data)
    folder.done(kind)


def started(folder: VmFolder, boot: str | None = None) -> None:
    """The start, on this boot or another."""
    data = start_data("vm", UUID, [NOBODY], [])
    step(folder, StepKind.START, **{**data, "boot": boot or boot_id()})


def steps(folder: VmFolder) -> list[StepKind]:
    return [entry.step for entry in folder.outstanding()]


def state(hypervisor: Hypervisor) -> str | None:
    """Of the domain, in libvirt's word."""
    found = hypervisor.domain("vm")
    return None if found is None else found.state


def nothing_said(_what: str, _seconds: float = 0) -> None:
    """Progress that nobody looks at."""
