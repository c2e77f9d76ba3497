"""Hostile values in a spec: each is refused by name, or comes back unchanged from every output.

What an output is made of is never compared with a text here, but with what its consumer reads: an
XML parser, a YAML parser, bash, the QEMU that bash starts. A rendering of hostile values has to be
read as that of harmless ones, with the one in the place of the other, and nothing else may happen.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.examples import few
from tests.machines import M4000
from tests.unit.hostile import CANARY, anything, chunks, printable
from tests.unit.values import TEST_KEYS, function, host, public_key, spec
from vfio_kit.cli.plan_command import saved_plan
from vfio_kit.errors import UsageError
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.model import PciAddress
from vfio_kit.model.vm import RenderedFile, UpPlan
from vfio_kit.plan import make_plan
from vfio_kit.plan.document import SCHEMA, differences
from vfio_kit.render import OUTPUTS, render
from vfio_kit.spec import BakeSpec, GuestSpec, load_bake_spec, load_spec

# Every key that takes a text.


def _leaves(annotation: Any) -> set[Any]:
    """The types that an annotation comes down to."""
    if get_origin(annotation) is Literal:
        return {str}
    if get_args(annotation):
        parts = get_args(annotation)
        metadata = get_origin(annotation) not in (list, dict, Union, UnionType)
        return _leaves(parts[0]) if metadata else set().union(*map(_leaves, parts))
    return {annotation}


def text_keys(schema: type[BaseModel], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys whose values are texts, or lists or tables of them; and what holds the text."""
    for name, field in schema.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from text_keys(annotation, f"{above}{name}.")
        elif str in _leaves(annotation):
            yield f"{above}{name}", get_origin(annotation)


KEYS = dict(text_keys(BakeSpec))
"""All that GuestSpec has, too."""


def test_every_kind_of_text_is_found() -> None:
    assert dict(text_keys(GuestSpec)).keys() <= KEYS.keys()
    for key in ("name", "gpus", "hugepages", "boot.kernel", "ssh.authorized_keys", "ssh.identity"):
        assert key in KEYS
    assert "cpus" not in KEYS and "memory" not in KEYS


def _values(key: str, text: str) -> list[object]:
    """The text wherever a value of this key has one."""
    if KEYS[key] is list:
        return [[text]]
    if KEYS[key] is dict:
        return [{text: "/a"}, {"01:00.0": text}]
    return [text]


def _toml(value: object) -> str:
    """A value as TOML, every character written as an escape."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    assert isinstance(value, str)
    return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'


@pytest.mark.parametrize("key", KEYS)
@given(text=anything)
@settings(max_examples=few(6))
def test_a_value_is_refused_by_name_or_kept(key: str, text: str) -> None:
    for value in _values(key, text):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "vm.toml"
            file.write_text(f"{key} = {_toml(value)}\n", "utf-8")
            _refused_or_kept(key, text, {"name": "gpu-vm", key: value}, None)
            _refused_or_kept(key, text, {} if key == "name" else {"name": "gpu-vm"}, file)


def _refused_or_kept(key: str, text: Any, options: dict[str, object], file: Path | None) -> None:
    try:
        made = load_bake_spec(file, options)
    except UsageError as error:
        assert (error.message + error.hint.replace("\n", "")).isprintable()
        # A surrogate is no value at all in TOML.
        assert key in error.message or any("\ud800" <= letter <= "\udfff" for letter in text)
        return
    assert text.isprintable()
    kept: Any = made
    for part in key.split("."):
        kept = kept[part] if isinstance(kept, dict) else getattr(kept, part)
    if KEYS[key] is dict:
        kept = kept.get("0000:01:00.0")
    elif KEYS[key] is list:
        (kept,) = kept
    if key in ("gpus", "accept_loss"):  # written out, with its domain
        kept, text = PciAddress.parse(kept), PciAddress.parse(text)
    assert kept == text


@given(st.binary(max_size=60) | anything.map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=few(20))
def test_a_file_of_any_bytes_is_a_spec_or_a_mistake(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vm.toml"
        file.write_bytes(data)
        with pytest.raises(UsageError):
            load_spec(file, {})


# Every output, as its consumer reads it.

Tree = Any
"""Texts in lists, tuples and dicts."""


@dataclass(frozen=True)
class Wanted:
    """A VM: its shape, and in `texts` what can be chosen freely, by the name of its harmless twin.

    The names in `texts` stand for themselves in the harmless VM.
    """

    name: str
    guest: str
    driver: str
    boot: str
    has_bundle: bool
    texts: dict[str, str]

    def plan(self, texts: dict[str, str]) -> UpPlan:
        boot: dict[str, Any] = {"mode": self.boot}
        if self.boot == "direct":
            boot |= {"kernel": f"/{texts['KERNEL']}", "initrd": f"/{texts['INITRD']}"}
        wanted = spec(
            "01:00.0",
            name=self.name,
            guest=self.guest,
            driver=self.driver,
            image=f"/{texts['IMAGE']}",
            boot=boot,
            network={"name": texts["NETWORK"][:100]},
            roms={"01:00.0": f"/{texts['OPTIONROM']}"},
            ssh={
                "authorized_keys": [public_key(f"x{texts['COMMENT']}x")],
                "identity": f"/{texts['IDENTITY']}",
            },
            **({"bundle": f"/{texts['BUNDLE']}"} if self.has_bundle else {}),
        )
        machine = host(function("01:00.0", M4000, 6, name=texts["DEVICENAME"]))
        state, images = f"/state/{texts['STATEDIR']}", f"/images/{texts['IMAGEDIR']}"
        return make_plan(machine, wanted, state_dir=state, image_dir=images)


_TWINS = (
    *("KERNEL", "INITRD", "IMAGE", "NETWORK", "OPTIONROM", "COMMENT", "IDENTITY", "BUNDLE"),
    *("DEVICENAME", "STATEDIR", "IMAGEDIR", "HOSTKEY"),
)
_HARMLESS = {f"{twin}": f"{twin}twin" for twin in _TWINS}
_WHOLE = Wanted("gpu-vm", "debian-12", "470", "direct", True, _HARMLESS)

# No dots, and no slashes at their ends: of a path of folders the planner may take these out.
_texts = printable.map(lambda text: text.replace("/", "|").replace(".", ":")[:100] or "x")
wanted_vms = st.builds(
    Wanted,
    name=st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?", fullmatch=True),
    guest=st.sampled_from(sorted(GUESTS)),
    driver=st.sampled_from(["470", "none"]),
    boot=st.sampled_from(["direct", "bios", "uefi"]),
    has_bundle=st.booleans(),
    texts=st.fixed_dictionaries(dict.fromkeys(_TWINS, _texts)),
)


def read_back(output: str, wanted: Wanted, texts: dict[str, str]) -> dict[str, Tree]:
    """What the consumers of an output's files read in them."""
    plan = wanted.plan(texts)
    private = f"-----BEGIN\n{texts['HOSTKEY']}\n-----END\n"
    authorized = (*TEST_KEYS.authorized, *plan.authorized_keys)
    keys = replace(TEST_KEYS, host_private=private, authorized=authorized)
    try:
        files = render(output, plan, keys)
    except UsageError as error:
        return {"refused": error.message}
    return {file.path: consumer(file)(file.text) for file in files}


def consumer(file: RenderedFile) -> Callable[[str], Tree]:
    """What reads such a file; one that nobody here knows needs a reader."""
    if file.path.endswith(".xml"):
        return lambda text: _xml_tree(ElementTree.fromstring(text))
    if file.text.startswith("#!/bin/bash\n"):
        return _run
    if file.path in ("user-data", "meta-data", "network-config"):
        return _yaml_tree
    raise AssertionError(f"who reads {file.path}? say it here")


def _xml_tree(element: ElementTree.Element) -> Tree:
    inner = list(map(_xml_tree, element))
    return element.tag, dict(element.attrib), element.text, element.tail, inner


def _yaml_tree(text: str) -> Tree:
    """The document; what it writes that is a shell's is run by one, and by nothing else."""
    tree = yaml.load(text, yaml.CSafeLoader)
    for written in tree.get("write_files", ()):
        if written["path"].endswith("provision.conf"):
            written["content"] = _run(f"set -u\n{written['content']}\ndeclare -p")
    return tree


_STAND_INS = {
    "qemu-system-x86_64": 'printf "%s\\0" "$@" >"$ARGV"',
    "readlink": "echo ../drivers/vfio-pci",
    "mktemp": "echo /tmp/OURS-vars.fd",
    "cp": ":",
    "rm": ":",
}
"""Programs that a script of ours may call, and what they do here."""


@cache
def _tools() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="vfio-kit-test-"))
    for name, body in _STAND_INS.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


def _run(text: str) -> Tree:
    """What a script says, and the arguments that it gives to QEMU; it may do nothing else."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "script").write_text(text, "utf-8")
        argv = folder / "argv"
        environment = {
            "PATH": f"{_tools()}:/usr/bin:/bin",
            "ARGV": str(argv),
            "LC_ALL": "C.UTF-8",
            "BASH_FUNC_ulimit%%": "() { echo unlimited; }",
        }
        done = subprocess.run(
            ["bash", "script"],
            cwd=folder,
            env=environment,
            check=False,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        starts_qemu = "\nqemu-system-x86_64 " in text
        assert argv.exists() == starts_qemu, f"exit {done.returncode}: {done.stderr}"
        words = argv.read_text("utf-8").split("\0")[:-1] if argv.exists() else None
        made = {path.name for path in folder.iterdir()} - {"script", "argv"}
        assert not made, f"the script made {made}"
    said = re.sub(
        rf"({re.escape(name)}|BASHPID=\S+|PPID=\S+|RANDOM=\S+|SRANDOM=\S+)", "", done.stdout
    )
    said = "\n".join(line for line in said.splitlines() if not _SHELL_S_OWN.match(line))
    return done.returncode, said, done.stderr, None if words is None else _qemu_tree(words)


_SHELL_S_OWN = re.compile(r"declare -\S+ (BASH\w*|EPOCH\w+|SECONDS|PPID|S?RANDOM|PWD|_|ARGV)\b")

_PLAIN = ("-kernel", "-initrd", "-append", "-dtb", "-bios", "-uuid")
"""Options of QEMU whose value is taken as it is."""


def _qemu_tree(words: list[str]) -> Tree:
    """QEMU's arguments: what is JSON as JSON, options as `,` parts them, unless doubled."""
    found: list[Tree] = []
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("{"):
            found.append(json.loads(word))
        elif before in _PLAIN:
            found.append(word)
        else:
            parts = re.split(r"(?<!,),(?!,)", word)
            found.append([part.replace(",,", ",") for part in parts])
    return found


def substituted(tree: Tree, texts: dict[str, str]) -> Tree:
    """The tree with the hostile text in the place of each harmless twin."""
    if isinstance(tree, str):
        pattern = "|".join(_HARMLESS.values())
        return re.sub(pattern, lambda match: texts[match[0].removesuffix("twin")], tree)
    if isinstance(tree, dict):
        return {substituted(k, texts): substituted(v, texts) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(substituted(one, texts) for one in tree)
    return tree


@pytest.mark.parametrize("output", OUTPUTS)
@given(wanted=wanted_vms)
@settings(max_examples=few(8), phases=set(Phase) - {Phase.shrink})
def test_every_output_is_read_as_that_of_harmless_values(output: str, wanted: Wanted) -> None:
    harmless = read_back(output, wanted, _HARMLESS)
    assert read_back(output, wanted, wanted.texts) == substituted(harmless, wanted.texts)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("boot", ["direct", "uefi"])
def test_every_word_that_means_harm_is_read_as_itself(output: str, boot: str) -> None:
    for text in chunks(90):
        text = text.replace("/", "|").replace(".", ":")
        wanted = Wanted("gpu-vm", "debian-12", "470", boot, True, dict.fromkeys(_TWINS, text))
        harmless = read_back(output, wanted, _HARMLESS)
        assert read_back(output, wanted, wanted.texts) == substituted(harmless, wanted.texts)


def test_every_text_that_can_be_chosen_is_somewhere() -> None:
    """Else the test above would compare nothing."""
    machine = {"KERNEL", "INITRD", "OPTIONROM", "IMAGEDIR"}
    places = {
        "libvirt": machine | {"NETWORK"},
        "qemu": machine,
        "microvm": machine,
        "cloud-init": {"COMMENT", "HOSTKEY"},
        "bundle": set(),
    }
    # The rest is in the journal, the record and on the command line alone.
    for output, names in places.items():
        said = repr(read_back(output, _WHOLE, _HARMLESS))
        assert {twin for twin, text in _HARMLESS.items() if text in said} == names, output
    assert places.keys() == OUTPUTS.keys()


def test_a_script_that_runs_a_value_is_caught() -> None:
    with pytest.raises(AssertionError, match=CANARY):
        _run("#!/bin/bash\necho $(touch canary)\n")
    with pytest.raises(AssertionError, match=CANARY):
        _run("#!/bin/bash\nqemu-system-x86_64 -name $(touch canary)\n")


def test_a_comma_that_is_not_doubled_is_caught() -> None:
    assert _qemu_tree(["-drive", "file=/a,,b,if=none"])[1] == ["file=/a,b", "if=none"]
    harmless = _qemu_tree(["-drive", "file=IMAGEtwin"])
    assert _qemu_tree(["-drive", "file=/a,b"]) != substituted(harmless, {"IMAGE": "/a,b"})


# A plan that was written down, and comes back with whatever somebody has put into the file.

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | anything,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "gpus", "boot", "ssh", "roms", "devices"]) | anything,
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(wanted=_json)
@settings(max_examples=few(15))
def test_a_plan_of_any_shape_is_a_plan_or_a_mistake(wanted: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.json"
        file.write_text(json.dumps({"schema": SCHEMA, "spec": wanted, "more": wanted}))
        try:
            document = saved_plan(file)
        except UsageError:
            return
    # Told in an error, whose printing takes out what moves a cursor.
    assert all(isinstance(line, str) for line in differences(document, _WHOLE.plan(_HARMLESS)))
    with pytest.raises(UsageError):
        load_spec(None, {}, document["spec"])


def test_a_plan_without_end_is_none() -> None:
    deep: Any = {}
    for _ in range(500):
        deep = {"spec": deep}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.json"
        file.write_text(json.dumps({"schema": SCHEMA, "spec": deep}))
        for path in (file, Path("/dev/zero")):
            with pytest.raises(UsageError):
                saved_plan(path)


def test_a_spec_comes_back_from_a_plan_with_keys_of_the_operator_s_own() -> None:
    options = {"name": "vm", "gpus": ["01:00.0"], "roms": {"01:00.0": "/a.rom"}, "ssh.user": "me"}
    made = load_spec(None, options)
    saved = json.loads(json.dumps(made.model_dump(mode="json", exclude_unset=True)))
    assert load_spec(None, {}, saved) == made
    with_key = load_spec(None, {"ssh.identity": "/key"}, saved)
    assert (with_key.roms, with_key.ssh.user, with_key.ssh.identity) == (
        *(made.roms, "me"),
        "/key",
    )
