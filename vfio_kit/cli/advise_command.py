"""vfio-kit advise"""

import re
from dataclasses import dataclass
from pathlib import Path

import click

from vfio_kit.analysis.advice.chips import find_gpus
from vfio_kit.analysis.advice.compatibility import advise
from vfio_kit.cli import completing, console
from vfio_kit.cli.advise_json import advice_json, unknown_json
from vfio_kit.cli.advise_report import print_advice, print_unknown
from vfio_kit.cli.common import (
    json_option,
    print_json,
    read_named_host,
    root_option,
    source_words,
)
from vfio_kit.errors import HostError, UsageError
from vfio_kit.knowledge.pci_vendors import NVIDIA
from vfio_kit.model import PciAddress, PciDevice
from vfio_kit.model.advice import Advice, UnknownGpu

_IDS = re.compile(r"(?:0x)?([0-9a-f]{4}):(?:0x)?([0-9a-f]{4})")
_SCHEMA = {"schema": "vfio-kit/advise/1"}
_HINT = "ask for a card by its id or name: --device 10de:13f1, --name 'Tesla K80'"
_LISTED = 12
"""How many ids an ambiguous name lists to choose from."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """What was asked about, and the answer."""

    answer: Advice | UnknownGpu
    address: PciAddress | None = None
    matches: tuple[Advice, ...] = ()
    """The devices that a name stands for; the answer is the same for all."""


@click.command("advise")
@click.option(
    "--gpu",
    metavar="ADDR",
    shell_complete=completing.gpus,
    help="A GPU of this machine, as in 01:00.0.",
)
@click.option(
    "--device",
    metavar="IDS",
    shell_complete=completing.gpu_ids,
    help="Vendor and device id, as in 10de:13f1.",
)
@click.option(
    "--name",
    metavar="NAME",
    shell_complete=completing.gpu_names,
    help='A GPU of NVIDIA\'s, as in "Tesla K80".',
)
@json_option
@root_option
@click.pass_context
def command(
    ctx: click.Context,
    gpu: str | None,
    device: str | None,
    name: str | None,
    as_json: bool,
    root: Path,
) -> None:
    """Say which driver and which CUDA an NVIDIA GPU takes, and whether it needs a guest.

    Without an option, of every NVIDIA GPU in the machine. Exit status 0 when the card is known,
    3 when it is not.
    """
    if sum(option is not None for option in (gpu, device, name)) > 1:
        raise UsageError("--gpu, --device and --name exclude each other")
    if gpu is not None:
        subject = _of_address(root, gpu)
    elif device is not None:
        subject = _of_ids(root, device)
    elif name is not None:
        subject = _of_name(root, name)
    else:
        ctx.exit(_every(root, as_json))
    if as_json:
        print_json(_SCHEMA | _json(subject))
    else:
        _print(subject, root)
    ctx.exit(0 if isinstance(subject.answer, Advice) else 3)


def _every(root: Path, as_json: bool) -> int:
    """Advice on each NVIDIA GPU of the machine; returns the exit status."""
    host = read_named_host(root)
    subjects = [
        _of_device(root, gpu, host.kernel_release) for gpu in host.gpus() if gpu.vendor_id == NVIDIA
    ]
    if as_json:
        print_json(_SCHEMA | {"gpus": [_json(subject) for subject in subjects]})
    else:
        for number, subject in enumerate(subjects):
            if number:
                click.echo()
            _print(subject, root)
        if not subjects:
            click.echo("no GPU of NVIDIA's on this host, and the table knows those alone")
    if not subjects:
        console.say(f"hint: {_HINT}")
    return 0 if any(isinstance(subject.answer, Advice) for subject in subjects) else 3


def _of_address(root: Path, text: str) -> _Subject:
    address = PciAddress.parse(text)
    host = read_named_host(root)
    device = host.device(address)
    if device is None or not device.is_gpu:
        what = "no PCI device" if device is None else "no GPU"
        gpus = ", ".join(str(gpu.address) for gpu in host.gpus()) or "none"
        raise UsageError(f"{what} {address} on this host", f"GPUs here: {gpus}\n{_HINT}")
    return _of_device(root, device, host.kernel_release)


def _of_device(root: Path, gpu: PciDevice, kernel: str) -> _Subject:
    name = gpu.name or _name_of(root, gpu.vendor_id, gpu.device_id)
    return _Subject(advise(gpu.vendor_id, gpu.device_id, name, kernel), gpu.address)


def _name_of(root: Path, vendor_id: int, device_id: int) -> str | None:
    """By the lists of the machine that is looked at; by ours where its tree has none."""
    from vfio_kit.host.names import name_lookup

    lists = map(name_lookup, dict.fromkeys((root, Path("/"))))
    return next(filter(None, (names.by_ids(vendor_id, device_id) for names in lists)), None)


def _of_ids(root: Path, text: str) -> _Subject:
    match = _IDS.fullmatch(text.strip().lower())
    if match is None:
        raise UsageError(
            f"{text!r} is no pair of PCI ids",
            "write vendor and device as lspci -n does, four hex digits each: 10de:13f1",
        )
    vendor_id, device_id = int(match[1], 16), int(match[2], 16)
    name = _name_of(root, vendor_id, device_id)
    return _Subject(advise(vendor_id, device_id, name, _kernel(root)))


def _of_name(root: Path, text: str) -> _Subject:
    """The GPU of that name; raises UsageError where several would get different advice."""
    from vfio_kit.host.names import name_lookup

    if not text.strip():
        raise UsageError("--name is empty", 'give a part of a name: --name "Quadro M4000"')
    if not text.isprintable():
        raise UsageError(f"--name {text!r} holds a control character", _HINT)
    kernel = _kernel(root)
    found = find_gpus(name_lookup(root).of_vendor(NVIDIA), text)
    answers = [advise(NVIDIA, device_id, name, kernel) for device_id, name in found.items()]
    known = tuple(answer for answer in answers if isinstance(answer, Advice))
    if not answers:
        reason = "no GPU of NVIDIA's in the lists of names here is called so"
        return _Subject(UnknownGpu(None, text, reason))
    if not known:
        return _Subject(answers[0])
    kinds = {(one.architecture, one.compute_capability, one.last_branch) for one in known}
    if len(kinds) > 1 or len(known) < len(answers):
        listed = [f"{one.ids}  {one.name}" for one in answers[:_LISTED]]
        if len(answers) > _LISTED:
            listed.append(f"and {len(answers) - _LISTED} more: ask for a longer name")
        raise UsageError(
            f"{text!r} fits several GPUs, and they do not take the same drivers",
            "\n".join(["choose one with --device:", *listed]),
        )
    return _Subject(known[0], matches=known)


def _kernel(root: Path) -> str:
    """The host's kernel; empty where there is no host to examine, which --device does not need."""
    try:
        return read_named_host(root).kernel_release
    except HostError:
        return ""


def _json(subject: _Subject) -> dict[str, object]:
    if isinstance(subject.answer, UnknownGpu):
        return unknown_json(subject.answer, subject.address)
    return advice_json(subject.answer, subject.address, subject.matches)


def _print(subject: _Subject, root: Path) -> None:
    if isinstance(subject.answer, UnknownGpu):
        print_unknown(subject.answer, subject.address)
        if subject.address is None:
            console.say(f"hint: {_HINT}")
    else:
        print_advice(subject.answer, subject.address, subject.matches, source_words(root))
