"""`vfio-kit render`: one output, and all of them."""

from collections.abc import Iterator

from benchmarks.row import Bound, Local, Row
from benchmarks.timing import commands_in_turns, folder, python
from tests.machines import m4000_isolated, write_machine
from vfio_kit.render import OUTPUTS

_LIBRARIES = "import click, jinja2, pydantic, cryptography.hazmat.primitives.asymmetric.ed25519"
_TIMES = 4.0
_KERNEL = ("--kernel", "/boot/guest-vmlinuz", "--initrd", "/boot/guest-initrd")


def _rows(runs: int) -> Iterator[Row]:
    with folder() as place:
        root = write_machine(place / "host", m4000_isolated())
        command = python("-m", "vfio_kit", "render", "--root", str(root), "--gpu", "01:00.0")
        command += [*_KERNEL, "--force", "--state-dir", str(place / "state")]
        every = [word for name in OUTPUTS for word in ("--output", name)]
        found = commands_in_turns(
            {
                "libraries": python("-c", _LIBRARIES),
                "one": [*command, "--output", "libvirt", "-o", str(place / "one")],
                "all": [*command, *every, "-o", str(place / "all")],
            },
            runs,
        )
        size = sum(path.stat().st_size for path in (place / "all").iterdir())
    libraries = Row("python that imports its libraries", found["libraries"])
    yield libraries
    names = {"one": "render --output libvirt", "all": f"render, all {len(OUTPUTS)} outputs"}
    for way, name in names.items():
        ratio = Row("", found[way]).median / libraries.median
        yield Row(
            name,
            found[way],
            libraries.as_floor("its libraries"),
            (Bound("× its libraries", ratio, _TIMES),),
            f"{size >> 10} KiB of files" if way == "all" else "",
        )


BENCHMARK = Local(
    name="render",
    title="render: from a host and a spec to files",
    runs=5,
    method=(
        "Whole processes: `python -m vfio_kit render --root TREE --gpu 01:00.0` of a small host, "
        "once with one output and once with all of them, keys and seed among them. The floor is an "
        "interpreter that imports the libraries that it stands on (click, Jinja2, pydantic, "
        "cryptography) and ends."
    ),
    meaning=(
        "It reads the host, judges it, plans, and fills the templates: so it is also what `plan` "
        "costs, and what `up` spends before it changes anything."
    ),
    rows=_rows,
)
