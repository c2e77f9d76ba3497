"""A guest from a baked image beside one that installs the same packages at boot."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.row import Bound, InLab, Row
from benchmarks.timing import in_turns
from tests.lab.baking import BASE, GOLDEN, IMAGES, MACHINE, MOST, WANTED, bundle_on, down, free_gpu

if TYPE_CHECKING:
    from tests.lab.labhost import LabHost

_LOGIN = "logged in"
_PHASES = (_LOGIN, "up is done", "verified")
_WAYS = {
    "plain": f"{MACHINE} --image {IMAGES}/guest.qcow2",
    "baked": f"{MACHINE} --image {GOLDEN}",
    "unbaked": f"{BASE} {WANTED}",
}


def _rows(host: "LabHost", runs: int) -> Iterator[Row]:
    free_gpu(host)
    bundle_on(host)
    _remove(host)
    try:
        baking = _document(host, f"vfio-kit bake {GOLDEN} {BASE} {WANTED}")
        found = in_turns({way: _up(host, options) for way, options in _WAYS.items()}, runs, warm=0)
    finally:
        _remove(host)
    for phase in _PHASES:
        seconds = {way: tuple(marks[phase] for marks in runs) for way, runs in found.items()}
        plain = Row(f"{phase}, nothing to install", seconds["plain"])
        floor = plain.as_floor("nothing to install")
        quicker = statistics.median(seconds["baked"]) / statistics.median(seconds["unbaked"])
        bounds = (Bound("× unbaked", quicker, 1.0),) if phase != _LOGIN else ()
        yield plain
        yield Row(f"{phase}, baked", seconds["baked"], floor, bounds)
        yield Row(f"{phase}, unbaked", seconds["unbaked"], floor)
    yield Row("bake itself, once an image", (float(baking["seconds"]),))


def _up(host: "LabHost", options: str) -> Callable[[], dict[str, float]]:
    def up() -> dict[str, float]:
        document = _document(host, f"vfio-kit up bench --gpu 01:00.0 {options}")
        login = next(s for s in document["steps"] if s["what"].startswith("logged in"))
        begin = time.monotonic()
        host.run("vfio-kit verify bench", check=False, timeout=MOST)
        verify = time.monotonic() - begin
        down(host, "bench")
        done = float(document["seconds"])
        ends = (login["begin"] + login["seconds"], done, done + verify)
        return {phase: round(end, 1) for phase, end in zip(_PHASES, ends, strict=True)}

    return up


def _document(host: "LabHost", command: str) -> dict[str, Any]:
    return dict(json.loads(host.run(f"{command} --json", timeout=MOST).stdout))


def _remove(host: "LabHost") -> None:
    host.run(f"rm -f {GOLDEN} {GOLDEN.removesuffix('.qcow2')}.manifest.json")


BENCHMARK = InLab(
    name="bake",
    title="Baked against unbaked",
    runs=2,
    method=(
        "In the virtual host: `up` from the same base image in three ways in turns, until somebody "
        "is logged in, until it is done (cloud-init has ended), both as it says itself, and until "
        "`verify` has said its word behind it. *Unbaked* installs three small packages (hello, "
        "tree, file) from an offline bundle at boot; *baked* starts from an image that `vfio-kit "
        "bake` made with the same packages; the floor is a guest that has nothing to install. "
        "Baking is done once before."
    ),
    meaning=(
        "Three small packages are the least that there is to gain. With NVIDIA's driver 470, apt "
        "and DKMS took from 209 to 390 s in a Debian 12 chroot on two CPUs, by the network or from "
        "a bundle: that is what baking takes away from every first boot, and what one baking costs "
        "beside its own boot."
    ),
    rows=_rows,
)
