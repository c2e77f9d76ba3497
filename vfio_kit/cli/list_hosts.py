"""`list` of several GPU hosts: all are asked at once, and none hides another."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from vfio_kit.cli import console
from vfio_kit.cli.common import print_json
from vfio_kit.cli.connect import request_of
from vfio_kit.cli.console import without_control
from vfio_kit.cli.list_table import HEAD, cells_of, print_table
from vfio_kit.cli.report import Report
from vfio_kit.errors import HostError, VfioKitError

if TYPE_CHECKING:
    from vfio_kit.remote.protocol import Request
    from vfio_kit.remote.uri import RemoteHost

_PATIENCE = 180.0
_LONGEST = 4 * 1024 * 1024

Vms = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a host said: its VMs, with its words on stderr."""

    vms: Vms
    words: str = ""


def list_hosts(
    ctx: click.Context, uris: Sequence[str], as_json: bool, here: Callable[[], Vms]
) -> int:
    """Asks all hosts and prints their VMs; the exit status. here: those of qemu:///system."""
    from vfio_kit.guest.many import for_each
    from vfio_kit.remote.uri import parse_uri

    hosts = {uri: parse_uri(uri) for uri in dict.fromkeys(uris)}
    requests = {uri: None if host is None else _request(ctx, host) for uri, host in hosts.items()}

    def ask(uri: str) -> _Answer:
        host, request = hosts[uri], requests[uri]
        return _Answer(here()) if host is None or request is None else _ask(host, request)

    with Report().silently(f"asking {len(hosts)} hosts"):
        answers = dict(for_each(hosts, ask))
    rows: list[tuple[str, ...]] = [("HOST", *HEAD)]
    documents = []
    for uri, host in hosts.items():
        answer, name = answers[uri], "this host" if host is None else str(host)
        error: VfioKitError | None = None
        vms: Vms = []
        if isinstance(answer, VfioKitError):
            error = answer
        elif isinstance(answer, Exception):
            raise answer
        else:
            vms = answer.vms
            for line in answer.words.splitlines():
                console.say(click.style(f"{name}: {without_control(line)}", fg="yellow"))
        documents.append(_document(uri, error, vms))
        rows += [(name, *map(without_control, cells_of(vm))) for vm in vms]
        if error is not None:
            console.error(error.message, error.hint)
            rows.append((name, "?", "no answer", "-", "-"))
        elif not vms:
            rows.append((name, "-", "no VM is up", "-", "-"))
    if as_json:
        print_json({"schema": "vfio-kit/list/2", "hosts": documents})
    else:
        print_table(rows)
    return 0 if all(document["error"] is None for document in documents) else HostError.exit_code


def _request(ctx: click.Context, host: "RemoteHost") -> "Request":
    """`list --json`, whatever becomes of it here."""
    asked = request_of(ctx, host)
    name, *words = asked.argv
    return replace(asked, argv=(name, "--json", *words), terminals=(False, False))


def _document(uri: str, error: VfioKitError | None, vms: Vms) -> dict[str, Any]:
    return {
        "uri": uri,
        "error": None if error is None else error.message,
        "vms": None if error is not None else vms,
    }


def _ask(host: "RemoteHost", request: "Request") -> _Answer:
    """Raises HostError where the host cannot be asked, or what it answers is no list."""
    from vfio_kit.remote.ssh import Call

    out, err = bytearray(), bytearray()

    def keep(more: bytes) -> None:
        out.extend(more)
        if len(out) > _LONGEST:
            raise HostError(f"{host} sends more than {_LONGEST} bytes")

    status = Call(host, request).converse(keep, err.extend, _PATIENCE)
    words = err.decode("utf-8", "replace")
    if status:
        reason = " / ".join(words.strip().splitlines()[:4]) or "without a word"
        raise HostError(f"{host}: vfio-kit list failed there (exit {status}): {reason}")
    return _Answer(_vms(host, bytes(out)), words)


def _vms(host: "RemoteHost", data: bytes) -> Vms:
    try:
        vms = json.loads(data)["vms"]
        for vm in vms:
            texts = (vm["name"], vm["state"], vm["address"] or "", *vm["gpus"])
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("a value is of another type")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise HostError(f"{host}: its vfio-kit list --json makes no sense: {error!r}") from None
    assert isinstance(vms, list)
    return vms
