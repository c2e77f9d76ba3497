"""The steps of `up`: each with its preparation, its doing and its undoing.

prepare  looks, changes nothing, and returns what undoing needs; that is journalled first.
do       does it.
undo     puts it back; works also where `do` never ran or broke off in the middle.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vfio_kit.apply import drivers, hugepages
from vfio_kit.apply.bundle import Bundle, check_bundle, write_bundle
from vfio_kit.apply.files import remove, write_file
from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.images import create_overlay, write_seed
from vfio_kit.apply.journal import VmFolder
from vfio_kit.apply.keys import KeyPair, new_key
from vfio_kit.errors import HostError, UsageError
from vfio_kit.model.vm import BackingImage, RenderedFile, SeedKeys, StepKind, UpPlan

Data = dict[str, Any]
Connect = Callable[[], Hypervisor]
"""Gives the connection to libvirt; asked by those steps alone that need it."""


@dataclass
class Work:
    """What the steps of one `up` share. The two renderers come from the caller."""

    plan: UpPlan
    folder: VmFolder
    hypervisor: Hypervisor
    image: BackingImage
    domain_xml: str
    render_seed: Callable[[SeedKeys], tuple[RenderedFile, ...]]
    bundle: Bundle | None = None
    """Looked at, where the plan has one."""
    host_key: KeyPair = field(init=False)
    client_key: KeyPair = field(init=False)


@dataclass(frozen=True)
class StepImplementation:
    """A row of the table STEPS."""

    prepare: Callable[[Work], Data]
    do: Callable[[Work, Data], None]
    undo: Callable[[Connect, Data], None]


def boot_id() -> str:
    """The kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _new_files(*paths: str | None) -> Data:
    files = [path for path in paths if path is not None]
    for path in files:
        if Path(path).exists():
            raise UsageError(
                f"{path} exists already, and vfio-kit did not make it for this VM",
                "choose another name, or move that file away",
            )
    return {"files": files}


def _remove_files(_connect: Connect, data: Data) -> None:
    for path in data["files"]:
        remove(Path(path))


def _prepare_hugepages(work: Work) -> Data:
    pages = work.plan.domain.hugepages
    if pages is None:
        raise ValueError("a plan without hugepages has no such step")
    return {
        "size_kib": pages.size_kib,
        "count": hugepages.pages_to_add(pages),
        "before": hugepages.pool_size(pages.size_kib),
        "boot": boot_id(),
    }


def _grow(_work: Work, data: Data) -> None:
    if data["count"]:
        hugepages.grow(data["size_kib"], data["count"])


def _shrink(_connect: Connect, data: Data) -> None:
    # Another boot has another pool: what was added then is gone by itself.
    if data["count"] and data["boot"] == boot_id():
        hugepages.shrink(data["size_kib"], data["count"], at_least=data["before"])


def _make_keys(work: Work, _data: Data) -> None:
    name = work.plan.domain.name
    work.host_key, work.client_key = new_key(f"root@{name}"), new_key(f"vfio-kit@{name}")
    write_file(work.folder.identity, work.client_key.private.encode())
    # The guest's address is not known yet: known_hosts has the VM's name, which HostKeyAlias uses.
    write_file(work.folder.known_hosts, f"{name} {work.host_key.public}\n".encode())


def _write_seed(work: Work, _data: Data) -> None:
    keys = SeedKeys(
        host_private=work.host_key.private,
        host_public=work.host_key.public,
        authorized=(work.client_key.public, *work.plan.authorized_keys),
    )
    write_seed(Path(work.plan.domain.seed), work.render_seed(keys))
    if work.bundle is not None and work.plan.domain.bundle is not None:
        check_bundle(work.bundle)
        write_bundle(Path(work.plan.domain.bundle), work.bundle)


def _create_overlay(work: Work, _data: Data) -> None:
    create_overlay(Path(work.plan.domain.disk), work.image, work.plan.disk_gib)


def _domain(work: Work) -> Data:
    return {"domain": work.plan.domain.name, "uuid": work.plan.domain.uuid}


def _ours(hypervisor: Hypervisor, data: Data) -> bool:
    """Whether the domain of that name is the one that was made here."""
    found = hypervisor.domain(data["domain"])
    return found is not None and found.uuid == data["uuid"]


def _undefine(connect: Connect, data: Data) -> None:
    hypervisor = connect()
    if _ours(hypervisor, data):
        hypervisor.undefine(data["domain"])


def _prepare_start(work: Work) -> Data:
    addresses = [str(device.address) for device in work.plan.devices]
    return {
        **_domain(work),
        "drivers": {address: drivers.driver_of(address) for address in addresses},
        "ids": {address: drivers.ids_of(address) for address in addresses},
        "boot": boot_id(),
    }


def _stop(connect: Connect, data: Data) -> None:
    hypervisor = connect()
    if _ours(hypervisor, data):
        hypervisor.destroy(data["domain"])
    if data["boot"] != boot_id():
        return  # the kernel has bound its drivers anew since
    taken = hypervisor.passed_through()
    wrong = [
        f"{address} is gone from the bus"
        for address, ids in data["ids"].items()
        if ids is not None and drivers.ids_of(address) is None
    ]
    wrong += [
        f"{address} has {now or 'no driver'}, had {before or 'none'}"
        for address, before in data["drivers"].items()
        # Not where another card sits now, and not under another VM.
        if drivers.ids_of(address) == data["ids"][address] and address not in taken
        if (now := drivers.restore(address, before)) != before
    ]
    if wrong:
        raise HostError(
            "a device did not come back: " + "; ".join(wrong), "see dmesg; then repeat the command"
        )


def _nothing(_work: Work) -> Data:
    return {}


STEPS: dict[StepKind, StepImplementation] = {
    # The folder and its record are there before the journal can be.
    StepKind.STATE: StepImplementation(_nothing, lambda _w, _d: None, lambda _c, _d: None),
    StepKind.HUGEPAGES: StepImplementation(_prepare_hugepages, _grow, _shrink),
    StepKind.KEYS: StepImplementation(
        lambda w: {"files": [str(w.folder.identity), str(w.folder.known_hosts)]},
        _make_keys,
        _remove_files,
    ),
    StepKind.DISK: StepImplementation(
        lambda w: _new_files(w.plan.domain.disk), _create_overlay, _remove_files
    ),
    StepKind.SEED: StepImplementation(
        lambda w: _new_files(w.plan.domain.seed, w.plan.domain.bundle), _write_seed, _remove_files
    ),
    StepKind.DEFINE: StepImplementation(
        _domain, lambda w, _d: w.hypervisor.define(w.domain_xml), _undefine
    ),
    StepKind.START: StepImplementation(
        _prepare_start, lambda w, _d: w.hypervisor.start(w.plan.domain.name), _stop
    ),
}
