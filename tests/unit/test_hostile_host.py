"""A host whose every name means harm: nothing of it moves a cursor, and JSON stays JSON.

Whoever plugs in a device, names a process, mounts a disk or sends a snapshot is not the one who
reads what is printed, who may be root at a terminal.
"""

import json
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tests.examples import few
from tests.machines import (
    E1000,
    M4000,
    M4000_AUDIO,
    PCI_BRIDGE,
    ROOT_PORT,
    Block,
    Function,
    Input,
    Machine,
    Mount,
    Process,
    write_machine,
)
from tests.unit.hostile import CANARY, UNSEEN, anything, printable
from vfio_kit.cli import _COMMANDS, _cli
from vfio_kit.host.names import _pci_ids

GPU, AUDIO, NIC = "0000:02:01.0", "0000:02:01.1", "0000:02:02.0"
NVME, USB, OTHER = "0000:02:03.0", "0000:02:04.0", "0000:03:00.0"


def vfio_kit(*arguments: str | Path) -> Result:
    return CliRunner().invoke(_cli, [str(word) for word in arguments], prog_name="vfio-kit")


def _file_name(text: str) -> str:
    """What the kernel could call a folder: any bytes but / and NUL."""
    data = text.encode("utf-8", "surrogatepass").replace(b"/", b"|").replace(b"\0", b"")[:60]
    name = data.decode("utf-8", "surrogateescape")
    return f"x{name}"


def _escaped(text: str) -> bytes:
    """As procfs writes names: white space and backslashes as octal numbers."""
    data = _file_name(text).encode("utf-8", "surrogateescape")
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes((byte,)) for byte in data)


NAMES = (
    *("device", "driver", "process", "interface", "mount", "mapper", "keyboard", "release"),
    *("cmdline", "route", "swap", "numa", "reset", "cpu"),
)
"""Texts of a host that others than its operator may choose."""


def _data(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")[:4000]


def machine(names: dict[str, str]) -> Machine:
    """A shared group with everything that a host may lose in it, and a GPU of its own."""
    port, bridge = "0000:00:01.0", "0000:01:00.0"
    interface = _file_name(names["interface"])[:15]
    mounts = b"26 1 259:1 / /%s rw - ext4 /dev/%s rw\n27 1 259:1 / / rw - ext4 /dev/nvme0n1p1 rw\n"
    functions = (
        Function(port, ROOT_PORT, 5, "pcieport"),
        Function(bridge, PCI_BRIDGE, 6, parent=port),
        Function(GPU, M4000, 6, boot_vga=False, parent=bridge, cards=("card1", "renderD129")),
        Function(AUDIO, M4000_AUDIO, 6, "snd_hda_intel", parent=bridge),
        Function(NIC, E1000, 6, "e1000", interfaces=(interface,), parent=bridge),
        Function(NVME, ("144d", "a808", "010802"), 6, "nvme", parent=bridge),
        Function(
            *(USB, ("8086", "a36d", "0c0330"), 6, "xhci_hcd"),
            inputs=(Input("a keyboard", 3),),
            parent=bridge,
        ),
        Function(OTHER, M4000, 7, _file_name(names["driver"]), cards=("card2",)),
    )
    return Machine(
        functions,
        blocks=(
            Block("nvme0n1", "259:0", NVME),
            Block("nvme0n1p1", "259:1", partition_of="nvme0n1"),
            Block("dm-0", "254:0", slaves=("nvme0n1p1",), dm=("vg0-root", "LVM-x")),
        ),
        mounts=(Mount("/srv", "ext4", "/dev/dm-0", "254:0"),),
        processes=(Process(4711, "x", ("/dev/dri/card1",)),),
        files={
            "usr/share/misc/pci.ids": b"10de  NVIDIA\n\t13f1  " + _data(names["device"]) + b"\n",
            "proc/4711/comm": _data(names["process"])[:15] + b"\n",
            "proc/self/mountinfo": mounts % (_escaped(names["mount"]), _escaped(names["mapper"])),
            "proc/swaps": b"Filename\n"
            + _escaped("/dev/" + names["swap"])
            + b" partition 1 0 -2\n",
            "sys/devices/virtual/block/dm-0/dm/name": _data(names["mapper"]) + b"\n",
            "sys/class/input/input3/name": _data(names["keyboard"]) + b"\n",
            "proc/sys/kernel/osrelease": _data(names["release"])[:64] + b"\n",
            "proc/cmdline": _data(names["cmdline"]) + b"\n",
            "proc/net/route": b"Iface\tDestination\n" + _data(names["route"]) + b"\t00000000\n",
            f"sys/bus/pci/devices/{GPU}/numa_node": _data(names["numa"]) + b"\n",
            f"sys/bus/pci/devices/{GPU}/reset_method": _data(names["reset"]) + b"\n",
            "proc/cpuinfo": b"vendor_id\t: " + _data(names["cpu"]) + b"\nflags\t: svm\n",
        },
    )


def hostile_machine(folder: Path, texts: dict[str, str]) -> Path:
    _pci_ids.cache_clear()
    return write_machine(folder / "tree", machine(texts))


def shows_no_more_than_text(result: Result) -> None:
    """What was printed is lines of what can be seen, and no command ended with a bug of ours."""
    # A usage error of click's, or an exit of ours: anything else is a traceback.
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code in (0, 2, 3, 4), result.output
    for line in result.output.split("\n"):
        assert line.isprintable(), ascii(line)


LOOKS: tuple[tuple[str, ...], ...] = (
    ("scan",),
    ("scan", "--tree"),
    ("scan", "--json"),
    ("plan", "--gpu", "03:00.0", "--driver", "none"),
    ("plan", "--gpu", "03:00.0", "--driver", "none", "--json"),
    ("plan", "--gpu", "02:01.0", *(f"--accept-loss={one}" for one in (GPU, NIC, NVME, USB))),
    ("advise",),
    ("advise", "--json"),
    ("advise", "--gpu", "03:00.0"),
)


@given(texts=st.fixed_dictionaries(dict.fromkeys(NAMES, anything)))
@example(texts=dict.fromkeys(NAMES, UNSEEN))
@settings(max_examples=few(3), phases=set(Phase) - {Phase.shrink})
def test_no_name_of_a_host_does_more_than_show(texts: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = hostile_machine(Path(name), texts)
        snapshot = Path(name) / "snapshot.tar.gz"
        taken = vfio_kit("snapshot", "--root", root, "-o", snapshot)
        shows_no_more_than_text(taken)
        assert taken.exit_code == 0, taken.output
        for words in LOOKS:
            for source in (("--root", root), ("--from", snapshot)):
                result = vfio_kit(*words, *source)
                shows_no_more_than_text(result)
                if "--json" in words and result.exit_code in (0, 3) and result.stdout:
                    json.loads(result.stdout)


def test_these_names_are_printed_where_they_do_no_harm() -> None:
    """Else the test above would look for nothing."""
    with tempfile.TemporaryDirectory() as name:
        root = hostile_machine(Path(name), {name: f"MY-{name}" for name in NAMES})
        said = "".join(vfio_kit(*words, "--root", root).output for words in LOOKS)
    shown = {name for name in NAMES if f"MY-{name}" in said}
    # Others are shown as …, whoever asks, or are compared alone.
    assert shown == {"device", "driver", "process", "release", "cpu", "numa", "reset"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of a machine whose names mean no harm."""
    return hostile_machine(tmp_path_factory.mktemp("plain"), dict.fromkeys(NAMES, "plain"))


@given(text=printable)
@settings(max_examples=few(3))
def test_a_name_in_pci_ids_comes_whole_into_json(plain: Path, text: str) -> None:
    ids = plain / "usr/share/misc/pci.ids"
    before = ids.read_bytes()
    _pci_ids.cache_clear()
    ids.write_text(f"10de  NVIDIA\n\t13f1  x{text}x\n", "utf-8")
    result = vfio_kit("scan", "--json", "--root", plain)
    ids.write_bytes(before)
    assert {gpu["name"] for gpu in json.loads(result.stdout)["gpus"]} == {f"x{text}x"}


@given(text=printable)
@settings(max_examples=few(3), phases=set(Phase) - {Phase.shrink})
def test_a_spec_s_values_come_whole_into_json_and_into_files(plain: Path, text: str) -> None:
    text = text.replace("/", "|").replace(".", ":")[:80] or "x"
    words = ("--gpu", "03:00.0", "--driver", "none", "--image", f"/x{text}", "--root", plain)
    more = ("--network", f"x{text}", "--state-dir", f"/x{text}", "--image-dir", f"/y{text}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / f"out{text}"
        planned = vfio_kit("plan", "--json", *words, *more)
        rendered = vfio_kit("render", "--output", "libvirt", "-o", folder, *words, *more)
        for result in (vfio_kit("plan", *words, *more), planned, rendered):
            assert result.exit_code == 0, result.output
            shows_no_more_than_text(result)
        found = ElementTree.fromstring((folder / "domain.xml").read_text("utf-8"))
    document = json.loads(planned.stdout)
    assert document["image"] == f"/x{text}"
    assert any(f"/y{text}/gpu-vm.qcow2" in step["what"] for step in document["steps"])
    source = found.find("devices/interface/source")
    assert source is not None and source.get("network") == f"x{text}"


# What an operator, or whoever calls us for one, writes on the command line.

ARGUMENTS: tuple[tuple[str, ...], ...] = (
    ("scan", "--from"),
    ("scan", "--root"),
    ("plan", "--gpu"),
    ("plan", "--gpu", "01:00.0", "--name"),
    ("plan", "--gpu", "01:00.0", "--spec"),
    ("plan", "--gpu", "01:00.0", "--state-dir"),
    ("plan", "--gpu", "01:00.0", "--driver"),
    ("plan", "--gpu", "01:00.0", "--image"),
    ("plan", "--gpu", "01:00.0", "--memory"),
    ("advise", "--name"),
    ("advise", "--device"),
    ("explain",),
    ("down",),
    ("up",),
    ("verify",),
    ("verify", "--state-dir"),
    ("verify", "--hosts"),
    ("image", "fetch"),
    ("bake", "--check"),
    (),
)


def test_every_command_has_an_argument_here() -> None:
    assert {words[0] for words in ARGUMENTS if words} <= _COMMANDS.keys()


@pytest.mark.parametrize("words", ARGUMENTS, ids=" ".join)
@given(text=anything.filter(lambda text: "\0" not in text))
@example(text=UNSEEN.replace("\0", ""))
@settings(max_examples=few(5))
def test_no_argument_does_more_than_show(words: tuple[str, ...], text: str) -> None:
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")[:4000]
    if text in ("", "-h", "--help", "--version"):
        return
    result = vfio_kit(*words, text)
    assert result.exit_code != 1, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    for line in result.output.split("\n"):
        assert line.isprintable(), ascii(line)
    assert not Path(CANARY).exists()
