"""The steps of `up`: each with its preparation, its doing and its undoing.

prepare  looks, changes nothing, and returns what undoing needs; that is journalled first.
do       does it.
undo     puts it back; works also where `do` never ran or broke off in the middle.
"""

import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfio_kit.apply import drivers, hugepages, service
from vfio_kit.apply.boot import boot_id
from vfio_kit.apply.bounded import Hung
from vfio_kit.apply.claims import added_hugepages, claims_of
from vfio_kit.apply.files import give_back_owners, mount_of, owners_of, remove, write_file
from vfio_kit.apply.hypervisor import Hypervisor
from vfio_kit.apply.images import create_overlay, write_seed
from vfio_kit.apply.journal import VmFolder
from vfio_kit.apply.keys import KeyPair, load_key, new_key
from vfio_kit.errors import HostError, UsageError
from vfio_kit.model.placement import Hugepages, Placement
from vfio_kit.model.vm import BackingImage, RenderedFile, SeedKeys, StepKind, UpPlan

if TYPE_CHECKING:
    from vfio_kit.apply.bundle import Bundle

Data = dict[str, Any]
"""What the journal has of a step: JSON."""
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
    bundle: "Bundle | None" = None
    """Looked at, where the plan has one."""
    host_key: KeyPair = field(init=False)
    client_public: str = field(init=False)
    """The public half of the key that opens the guest."""


@dataclass(frozen=True)
class StepImplementation:
    """A row of the table STEPS."""

    prepare: Callable[[Work], Data]
    do: Callable[[Work, Data], None]
    undo: Callable[[Connect, Data], None]
    look: Callable[[Data], hugepages.Look] | None = None
    """How far it has come while it is done, where that can be seen."""


def _new_files(*paths: str | None) -> Data:
    files = [path for path in paths if path is not None]
    for path in files:
        if os.path.lexists(path):  # also a link to nowhere, through which root would write
            raise UsageError(
                f"{path} exists already, and vfio-kit did not make it for this VM",
                "choose another name, or move that file away",
            )
    return {"files": files, "mounts": sorted({str(mount_of(Path(path))) for path in files})}


def _remove_files(_connect: Connect, data: Data) -> None:
    """HostError where they may be on what is not mounted now: they are not gone, and not seen."""
    unmounted = [mount for mount in data.get("mounts", ()) if not os.path.ismount(mount)]
    if unmounted and not all(os.path.lexists(path) for path in data["files"]):
        place = shlex.quote(unmounted[0])
        raise HostError(
            f"no file system is mounted at {', '.join(unmounted)}, where "
            f"{', '.join(data['files'])} were written",
            "mount it, and repeat; where it has gone for good, and the folder is empty, an empty "
            f"one will do: mount -t tmpfs none {place}; repeat; umount {place}",
        )
    for path in data["files"]:
        remove(Path(path))


def hugepages_data(
    pages: Hugepages, placement: Placement | None, state_dir: Path, name: str
) -> Data:
    """How the pools must grow for the VM `name`, beside what the others have; changes nothing."""
    return hugepages.prepare(
        pages,
        placement,
        claims=claims_of(state_dir, but=name),
        others=added_hugepages(state_dir, but=name),
    )


def _prepare_hugepages(work: Work) -> Data:
    domain = work.plan.domain
    if domain.hugepages is None:
        raise ValueError("a plan without hugepages has no such step")
    folder = work.folder
    return hugepages_data(domain.hugepages, domain.placement, folder.path.parent, folder.name)


def _prepare_keys(work: Work) -> Data:
    """What is made for this VM; the operator's own key stays where it is, whatever is undone."""
    if work.plan.identity is None:
        return {"files": [str(work.folder.identity), str(work.folder.known_hosts)]}
    work.client_public = load_key(Path(work.plan.identity)).public
    return {"files": [str(work.folder.known_hosts)]}


def _make_keys(work: Work, _data: Data) -> None:
    name = work.plan.domain.name
    work.host_key = new_key(f"root@{name}")
    if work.plan.identity is None:
        client_key = new_key(f"vfio-kit@{name}")
        work.client_public = client_key.public
        write_file(work.folder.identity, client_key.private.encode())
    # The guest's address is not known yet: known_hosts has the VM's name, which HostKeyAlias uses.
    write_file(work.folder.known_hosts, f"{name} {work.host_key.public}\n".encode())


def _write_seed(work: Work, _data: Data) -> None:
    keys = SeedKeys(
        host_private=work.host_key.private,
        host_public=work.host_key.public,
        authorized=(work.client_public, *work.plan.authorized_keys),
    )
    write_seed(Path(work.plan.domain.seed), work.render_seed(keys))
    if work.bundle is not None and work.plan.domain.bundle is not None:
        from vfio_kit.apply.bundle import check_bundle, write_bundle  # noqa: PLC0415  (few have one)

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


def start_data(name: str, uuid: str, addresses: Iterable[str], boot_files: Iterable[str]) -> Data:
    """What undoing a start needs: the functions that will move, with the drivers they have now.

    boot_files: the guest's kernel and initrd, if any, which libvirt gives to QEMU's user for as
    long as the VM runs, and which nobody gives back when the host dies before.
    """
    functions = tuple(addresses)
    return {
        "domain": name,
        "uuid": uuid,
        "drivers": {address: drivers.driver_of(address) for address in functions},
        "ids": {address: drivers.ids_of(address) for address in functions},
        "boot": boot_id(),
        "owners": owners_of(boot_files),
    }


def _prepare_start(work: Work) -> Data:
    domain = work.plan.domain
    boot_files = [path for path in (domain.boot.kernel, domain.boot.initrd) if path]
    addresses = (str(device.address) for device in work.plan.devices)
    return start_data(domain.name, domain.uuid, addresses, boot_files)


@contextmanager
def naming_drivers(data: Data) -> Iterator[None]:
    """Says of a call that does not come back which function has which driver at that time."""
    try:
        yield
    except Hung as error:
        # Of an unbind that hangs the link to the driver is gone before the driver lets go.
        has = [
            f"{address} has {drivers.driver_of(address) or 'no driver'}, had {before or 'none'}"
            for address, before in data["drivers"].items()
        ]
        raise Hung("; ".join([error.message, *has]), error.hint) from None


def _start(work: Work, data: Data) -> None:
    domain = work.plan.domain
    with naming_drivers(data):
        work.hypervisor.start(domain.name, domain.memory_mib)
    if work.plan.autostart:
        service.activate(work.plan.domain.name)


def _stop(connect: Connect, data: Data) -> None:
    hypervisor = connect()
    if _ours(hypervisor, data):
        with naming_drivers(data):
            hypervisor.destroy(data["domain"])
    if data["boot"] != boot_id():
        give_back_owners(data.get("owners", {}))
        return  # the kernel has bound its drivers anew since
    taken = hypervisor.passed_through()
    wrong = [
        f"{address} is gone from the bus"
        for address, ids in data["ids"].items()
        if ids is not None and drivers.ids_of(address) is None
    ]
    for address, before in data["drivers"].items():
        # Not where another card sits now, and not under another VM.
        if drivers.ids_of(address) == data["ids"][address] and address not in taken:
            wrong += _restored(address, before)
    if wrong:
        raise HostError(
            "a device did not come back: " + "; ".join(wrong), "see dmesg; then repeat the command"
        )


def _restored(address: str, before: str | None) -> list[str]:
    """What is wrong with a function after it was given back; one that hangs keeps no other."""
    try:
        now = drivers.restore(address, before)
    except HostError as error:
        return [error.message]
    return [] if now == before else [f"{address} has {now or 'no driver'}, had {before or 'none'}"]


def _nothing(_work: Work) -> Data:
    return {}


def _keep_domain(work: Work, _data: Data) -> None:
    write_file(work.folder.domain_xml, work.domain_xml.encode())


STEPS: dict[StepKind, StepImplementation] = {
    # The folder and its record are there before the journal can be. All of it is kept to be read.
    StepKind.STATE: StepImplementation(_nothing, _keep_domain, lambda _c, _d: None),
    StepKind.HUGEPAGES: StepImplementation(
        _prepare_hugepages,
        lambda _w, d: hugepages.take(d),
        lambda _c, d: hugepages.give_back(d),
        hugepages.growth,
    ),
    StepKind.KEYS: StepImplementation(_prepare_keys, _make_keys, _remove_files),
    StepKind.DISK: StepImplementation(
        lambda w: _new_files(w.plan.domain.disk), _create_overlay, _remove_files
    ),
    StepKind.SEED: StepImplementation(
        lambda w: _new_files(w.plan.domain.seed, w.plan.domain.bundle), _write_seed, _remove_files
    ),
    StepKind.DEFINE: StepImplementation(
        _domain, lambda w, _d: w.hypervisor.define(w.domain_xml), _undefine
    ),
    StepKind.AUTOSTART: StepImplementation(
        lambda w: service.prepare_for(w.plan, w.folder.path.parent),
        lambda _w, d: service.enable(d),
        lambda _c, d: service.disable(d),
    ),
    StepKind.START: StepImplementation(_prepare_start, _start, _stop),
    # Written down by whoever waits: when it is done, somebody could log in.
    StepKind.WAIT: StepImplementation(_nothing, lambda _w, _d: None, lambda _c, _d: None),
}
