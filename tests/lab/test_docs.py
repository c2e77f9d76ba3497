"""The `lab` blocks of the manual, page by page, on the virtual host: typed there as they stand.

The virtual host is small and has no network, so `vfio-kit up` is given a guest that fits, behind
what the page has: the last option wins. A page that makes the VM m4000 begins without it; pages
that speak of it without making it come last, and share one.
"""

import re
import shlex
from typing import Any

import pytest

from tests.docs.pages import Block, Page, manual

from .hoststate import SNAPSHOT, differences
from .labhost import LabHost
from .test_main_job import DIRECT

VM = "m4000"
WITH_VM = "m4000-isolated"
_BLOCK = 900.0
"""Seconds for a block: a guest boots in it, under emulation in emulation."""
_PRELUDE = f"""set -euo pipefail
sudo() {{ "$@"; }}
vfio-kit() {{
  case $1 in
    up) command vfio-kit "$@" {DIRECT} ;;
    *) command vfio-kit "$@" ;;
  esac
}}"""
"""Root's shell on the host, where sudo need not be installed."""


def blocks_of(page: Page, topology: str) -> list[Block]:
    return [
        one
        for one in page.blocks
        if one.marker and one.marker.kind == "lab" and one.marker.words == (topology,)
    ]


def typed(blocks: list[Block]) -> str:
    return "".join(block.commands for block in blocks)


def makes_vm(commands: str) -> bool:
    return re.search(rf"\bup {VM}\b", commands) is not None


def speaks_of_vm(commands: str) -> bool:
    return re.search(rf"\b{VM}\b", commands) is not None


def _cases() -> list[Any]:
    """Pages that need no VM, those that make theirs, those that share one."""
    found = []
    for page in manual():
        names = {one.marker.words[0] for one in page.blocks if one.marker and one.marker.words}
        for topology in sorted(names):
            if blocks := blocks_of(page, topology):
                commands = typed(blocks)
                rank = speaks_of_vm(commands) and 2 - makes_vm(commands)
                found.append((rank, page.path, topology, blocks))
    return [
        pytest.param(blocks, marks=pytest.mark.topology(topology), id=f"{path}-{topology}")
        for _, path, topology, blocks in sorted(found, key=lambda row: row[:2])
    ]


@pytest.mark.lab_long
@pytest.mark.parametrize("blocks", _cases())
def test_what_a_page_tells_to_type_does_as_it_says(gpuhost: LabHost, blocks: list[Block]) -> None:
    commands = typed(blocks)
    if speaks_of_vm(commands) and not makes_vm(commands):
        bring_up(gpuhost)
    else:
        take_down(gpuhost)
    before = gpuhost.run(SNAPSHOT).stdout
    for block in blocks:
        type_in(gpuhost, block)
    if re.search(rf"\bdown {VM}\b", commands):
        take_down(gpuhost)  # with what `down` keeps to be read
        assert differences(before, gpuhost.run(SNAPSHOT).stdout) == []


@pytest.mark.lab_long
@pytest.mark.topology(WITH_VM)
def test_the_vm_that_pages_have_shared_goes(gpuhost: LabHost) -> None:
    take_down(gpuhost)


def type_in(host: LabHost, block: Block) -> None:
    """Runs a block in a folder that all of them share; AssertionError for its exit status."""
    assert block.marker is not None
    script = f"{_PRELUDE}\n{block.commands}"
    words = "mkdir -p /root/manual && cd /root/manual && exec bash -c"
    done = host.run(f"{words} {shlex.quote(script)}", check=False, timeout=_BLOCK)
    told = f"{done.stdout}{done.stderr}"
    print(f"--- {block.id}\n{told}")
    due = block.marker.exits
    assert done.returncode == due, f"{block.id}: status {done.returncode} instead of {due}\n{told}"


def bring_up(host: LabHost) -> None:
    if host.run(f"virsh domstate {VM}", check=False).stdout.strip() != "running":
        take_down(host)
        host.run(f"vfio-kit up {VM} --gpu 01:00.0 {DIRECT}", timeout=_BLOCK)


def take_down(host: LabHost) -> None:
    host.run(f"test ! -e /var/lib/vfio-kit/{VM} || vfio-kit down {VM} --purge", timeout=300)
