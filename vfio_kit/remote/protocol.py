"""What a workstation and the `vfio-kit remote` of a GPU host say to each other.

The host begins with one line on stdout, `vfio-kit remote PROTOCOL VERSION`; what follows on both
streams is the command's own. The workstation sends one line of JSON, and keeps stdin open: its end
is the workstation's. No word of a request goes through a shell.
"""

import base64
import codecs
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from vfio_kit import __version__
from vfio_kit.errors import HostError

PROTOCOL = 1
_MARK = b"vfio-kit remote "
LONGEST = 16 * 1024 * 1024
"""Bytes of a request; a spec file has a megabyte at the most."""


def hello() -> bytes:
    """The first line of `vfio-kit remote`."""
    return b"%s%d %s\n" % (_MARK, PROTOCOL, __version__.encode())


def is_hello(line: bytes) -> bool:
    return line.startswith(_MARK)


def require_same_protocol(host: str, line: bytes) -> None:
    """Raises HostError where the line is the hello of a vfio-kit that speaks another protocol."""
    words = line.decode("utf-8", "replace").split()[2:]
    if words[:1] != [str(PROTOCOL)]:
        theirs = " ".join(words[1:2]) or "one without a version"
        spoken = words[0] if words else "?"
        raise HostError(
            f"{host}: the vfio-kit there ({theirs}) speaks protocol {spoken}, "
            f"this one ({__version__}) protocol {PROTOCOL}",
            "install the same version on both",
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One command for a GPU host.

    argv       the command's name and its words.
    files      place in argv -> content of the workstation's file that stands there.
    terminals  whether the workstation's stdout and stderr are terminals.
    columns    their width.
    live       whether a line can be drawn anew on its stderr.
    colors     whether there are colours; None: on terminals.
    encoding   of its streams, by Python's name.
    uri        the host's name on the workstation, for the next commands that are printed.
    login      how the workstation logs in there, as shell text.
    """

    argv: tuple[str, ...]
    files: Mapping[int, bytes] = field(default_factory=dict)
    terminals: tuple[bool, bool] = (False, False)
    columns: int = 80
    uri: str = ""
    login: str = ""
    live: bool = False
    colors: bool | None = None
    encoding: str = "utf-8"

    def line(self) -> bytes:
        """As it is sent."""
        document = {
            "protocol": PROTOCOL,
            "argv": self.argv,
            "files": {place: base64.b64encode(data).decode() for place, data in self.files.items()},
            "terminals": self.terminals,
            "columns": self.columns,
            "uri": self.uri,
            "login": self.login,
            "live": self.live,
            "colors": self.colors,
            "encoding": self.encoding,
        }
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        """The request in a line; HostError for one of another protocol, or that is none."""
        try:
            document = json.loads(line)
            if not isinstance(document, dict):
                raise TypeError("it is no object")
            if document.get("protocol") != PROTOCOL:
                raise HostError(
                    f"the workstation's vfio-kit speaks protocol {document.get('protocol')!r}, "
                    f"the one here ({__version__}) protocol {PROTOCOL}",
                    "install the same version on both",
                )
            return cls._of(document)
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise HostError(
                f"this is no request of a vfio-kit: {error}",
                "vfio-kit remote is what --connect runs; nobody else has to",
            ) from None

    @classmethod
    def _of(cls, document: dict[str, Any]) -> Self:
        argv, files, terminals = document["argv"], document["files"], document["terminals"]
        texts = [*argv, document["uri"], document["login"], *files.values()]
        if (
            not argv
            or not isinstance(argv, list)
            or not all(isinstance(text, str) for text in texts)
        ):
            raise ValueError("a value is of another type")
        decoded = {int(place): base64.b64decode(data) for place, data in files.items()}
        if not all(0 < place < len(argv) for place in decoded):
            raise ValueError("a file has no place among the words")
        return cls(
            argv=tuple(argv),
            files=decoded,
            terminals=(bool(terminals[0]), bool(terminals[1])),
            columns=min(max(int(document["columns"]), 40), 1000),
            uri=document["uri"],
            login=document["login"],
            # An older workstation says nothing of these.
            live=bool(document.get("live", terminals[1])),
            colors=None if document.get("colors") is None else bool(document["colors"]),
            encoding=codecs.lookup(str(document.get("encoding", "utf-8"))).name,
        )
