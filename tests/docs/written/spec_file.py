"""docs/reference/spec.md: the keys of the spec file, from the schema and its options."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import vfio_kit.spec
from tests.docs.written.markdown import NOTE, code, plain, table
from vfio_kit.cli.spec_table import SPEC_OPTIONS
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.provisioning import CUDAS, DRIVERS
from vfio_kit.spec import GuestSpec

_TOP = f"""\
# Keys of the spec file

{NOTE.format("the schema in vfio_kit/spec and the options in vfio_kit/cli/spec_table.py")}

TOML, for `--spec FILE` of `plan`, `render`, `up` and `bake`; an option on the command line wins
over its key. Unknown keys, wrong types and values out of range are errors that name the key and its
line (exit status 2). [The spec file](../spec.md) tells what they are for, with an example.

"""

WORDS: Mapping[str, str] = {
    "VmName": "a-z, 0-9, dot and hyphen",
    "AbsolutePath": "absolute path",
    "NetworkName": "1 to 100 characters",
    "GpuAddress": "PCI address, as in 01:00.0",
    "GuestSystem": ", ".join(code(name) for name in GUESTS),
    "Driver": ", ".join(code(name) for name in DRIVERS),
    "Cuda": ", ".join(code(name) for name in CUDAS),
    "Package": "NAME or NAME=VERSION",
    "PublicKey": "the line of a .pub file",
    "UserName": "1 to 32 of a-z, 0-9, _ and -",
    "bool": "`true` or `false`",
    "int": "whole number",
}
"""Types of vfio_kit/spec/fields.py -> what a reader may write. A new type wants its row."""


def spec_page() -> str:
    """A table for the keys of the top, then one for each of the sections."""
    parts = [*_table("", GuestSpec)]
    for name, field in GuestSpec.model_fields.items():
        section = _section(field)
        if section is not None:
            parts += [f"## [{name}]", "", _told(section), ""]
            parts += _table(f"{name}.", section)
    return _TOP + "\n".join(parts).rstrip() + "\n"


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _told(section: type[BaseModel]) -> str:
    """The section's docstring, without its name in front."""
    words = (inspect.getdoc(section) or "").partition("]: ")[2]
    return words[:1].upper() + words[1:]


def _table(prefix: str, schema: type[BaseModel]) -> Iterator[str]:
    options = dict(_options())
    source = _source(schema)
    rows = []
    for name, field in schema.model_fields.items():
        if _section(field) is None:
            option = options.get(f"{prefix}{name}")
            annotation, docstring = source[name]
            said, _, default = (option.help or "" if option else "").partition("[default:")
            meaning = plain(said.strip()) or docstring
            due = _default(field) or plain(default.strip(" ]"))
            rows.append((code(name), _type(annotation, field), due, _named(option), meaning))
    yield from table(("key", "value", "default", "option", "what it is"), rows)


def _options() -> Iterator[tuple[str, click.Option]]:
    """Key -> the option, as click makes it."""
    for key, decorate in SPEC_OPTIONS:
        command = click.command("x")(decorate(lambda **_: None))
        (option,) = (one for one in command.params if isinstance(one, click.Option))
        yield key, option


def _source(schema: type[BaseModel]) -> dict[str, tuple[ast.expr, str]]:
    """Field -> its annotation, and the text below it."""
    tree = ast.parse(inspect.getsource(vfio_kit.spec))
    (body,) = (
        n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == schema.__name__
    )
    found = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                text = " ".join(str(following.value.value).split())
            found[node.target.id] = (node.annotation, text)
    return found


def _type(annotation: ast.expr, field: FieldInfo) -> str:
    words = _words(annotation)
    least, most = (_limit(field, name) for name in ("ge", "le"))
    if least is not None and most is not None:
        words += f", {least} to {most}"
    return words


def _words(node: ast.expr) -> str:
    if isinstance(node, ast.BinOp):  # X | None: the key may be left out
        return _words(node.left)
    if isinstance(node, ast.Name):
        return WORDS[node.id]
    assert isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if node.value.id == "Annotated":
        return _words(inner[0])
    if node.value.id == "Literal":
        return ", ".join(code(str(one.value)) for one in inner if isinstance(one, ast.Constant))
    if node.value.id == "list":
        return f"list; each: {_words(inner[0])}"
    assert node.value.id == "dict"
    return f"table: {_words(inner[0])} = {_words(inner[1])}"


def _limit(field: FieldInfo, name: str) -> Any:
    return next((getattr(m, name) for m in field.metadata if hasattr(m, name)), None)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default in (None, [], {}):
        return ""
    value = field.default
    return code(str(value).lower() if isinstance(value, bool) else str(value))


def _named(option: click.Option | None) -> str:
    return "" if option is None else ", ".join(map(code, [*option.opts, *option.secondary_opts]))
