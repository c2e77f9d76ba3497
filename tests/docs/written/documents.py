"""docs/reference/json.md: each key of the documents, from the schemas that are shipped."""

import json
from collections.abc import Iterator
from typing import Any

from tests.docs.pages import CHECKOUT
from tests.docs.written.markdown import NOTE, code, plain, table

_TOP = f"""\
# JSON, key by key

{NOTE.format("vfio_kit/schemas")}

The documents that have a JSON Schema, each with its keys: `gpus[].address` is the key `address` of
each entry of the list `gpus`, `{{}}` stands for any key of an object. [JSON](../json.md) has the
rules that hold for all, and the documents without a schema.

"""
_DEEPEST = 8

Schema = dict[str, Any]


def documents_page() -> str:
    schemas = sorted((CHECKOUT / "vfio_kit/schemas").glob("*.schema.json"))
    documents = [(path.name, json.loads(path.read_text("utf-8"))) for path in schemas]
    sections = [line for name, schema in documents for line in _section(name, schema)]
    return _TOP + "\n".join(sections).rstrip() + "\n"


def _section(name: str, schema: Schema) -> Iterator[str]:
    yield from (f"## {schema['title']}", "")
    yield from (plain(schema["description"]), "")
    yield from (f"[{name}](../../vfio_kit/schemas/{name})", "")
    rows = list(dict.fromkeys(_keys(schema, schema, "", 0)))
    yield from table(("key", "type", "meaning"), rows)


def _keys(schema: Schema, whole: Schema, path: str, depth: int) -> Iterator[tuple[str, str, str]]:
    """Rows of what is below a schema; alternatives are all told, one behind the other."""
    if depth > _DEEPEST:
        return
    schema = _resolved(schema, whole)
    for one in schema.get("oneOf", ()):
        yield from _keys(one, whole, path, depth + 1)
    if "items" in schema:
        yield from _keys(schema["items"], whole, f"{path}[]", depth + 1)
    inner = schema.get("properties", {})
    anything = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    for key, one in (*inner.items(), *(("{}", one) for one in anything)):
        if not isinstance(one, dict):
            continue
        below = f"{path}.{key}" if path else key
        due = _resolved(one, whole)
        meaning = one.get("description") or due.get("description", "")
        if meaning or "description" in one or due:
            yield code(below), _type(one, whole), plain(meaning)
        yield from _keys(one, whole, below, depth + 1)


def _resolved(schema: Schema, whole: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Schema = whole["$defs"][reference.removeprefix("#/$defs/")]
    return found


def _type(schema: Schema, whole: Schema) -> str:
    schema = _resolved(schema, whole)
    if "const" in schema:
        return code(str(schema["const"]))
    if "enum" in schema:
        return ", ".join(code("null" if one is None else str(one)) for one in schema["enum"])
    if "oneOf" in schema:
        return " or ".join(dict.fromkeys(_type(one, whole) for one in schema["oneOf"]))
    kinds = schema.get("type", "any")
    words = [kinds] if isinstance(kinds, str) else list(kinds)
    if "array" in words and "items" in schema:
        words[words.index("array")] = f"list of {_type(schema['items'], whole)}"
    return " or ".join(words)
