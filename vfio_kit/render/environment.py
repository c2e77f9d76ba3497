"""The templates and what they can call: escaping is theirs, decisions are not."""

import json
import shlex
from functools import cache, partial
from typing import TYPE_CHECKING

from vfio_kit.assets import asset_dir
from vfio_kit.render.qemu import shell_words

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment(folder: str) -> "Environment":
    """The templates of an asset folder: `templates` or `cloud-init`."""
    from jinja2 import (  # noqa: PLC0415  (dear to import; the table of outputs needs none of it)
        Environment,
        FileSystemLoader,
        StrictUndefined,
    )

    made = Environment(
        loader=FileSystemLoader(asset_dir(folder)),
        undefined=StrictUndefined,
        autoescape=lambda name: bool(name and name.endswith(".xml.j2")),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["shell_words"] = shell_words
    made.filters["sh"] = shlex.quote
    # Not Jinja's own `tojson`: that one writes < > & ' as \\uXXXX for HTML. And no escapes of
    # characters beyond U+FFFF, which JSON makes two of and YAML reads as two.
    made.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    return made
