"""The exit statuses: of vfio-kit, from its errors, and of each command."""

import inspect
from collections.abc import Iterator, Mapping

from tests.docs.written.markdown import table
from vfio_kit.errors import VfioKitError

MEANINGS: Mapping[int, str] = {
    0: "Yes: it is so, or it is done.",
    1: "A bug of vfio-kit, with a traceback: please report it.",
    **{
        kind.exit_code: inspect.getdoc(kind) or ""
        for kind in VfioKitError.__subclasses__()
        if kind.__module__ == VfioKitError.__module__  # a test may have made one of its own
    },
    130: "Interrupted by SIGINT, SIGTERM or SIGHUP.",
}
"""Status -> what it means of any command."""

_SSH = "`--connect`: the host cannot be reached, or has no vfio-kit that can be used"
_READS = {4: f"the host cannot be read; {_SSH}"}
_CHANGES = {
    4: f"not root, or the host cannot be changed; another vfio-kit is at work there; {_SSH}"
}
_LIBVIRT = {5: "libvirt does not answer, or does not do it"}

EXITS_OF: Mapping[tuple[str, ...], Mapping[int, str]] = {
    ("scan",): {0: "at least one GPU can go; with `--gpu`: all of them", 3: "none can", **_READS},
    ("explain",): {0: "told", 2: "no finding has this code"},
    ("advise",): {0: "the card is known", 3: "it is not", **_READS},
    ("plan",): {0: "it can be done", 3: "the GPU cannot go, or not with this software", **_READS},
    ("render",): {0: "the files are written", 3: "as `plan`", **_READS},
    ("snapshot",): {0: "the tarball is written", **_READS},
    ("image", "fetch"): {
        0: "it is there, and proven",
        2: "no guest system of this name, or no digest where nobody signs",
        3: "it is not what it has to be: signature, checksum, redirect",
        4: "the folder cannot be written, or has no room; no gpgv",
        5: "it cannot be downloaded",
    },
    ("image", "list"): {0: "told", 4: "the folder cannot be read"},
    ("image", "rm"): {0: "it is gone", 3: "something stands on it", 4: "it cannot be removed"},
    ("bake",): {
        0: "the image is there; with `--check`: it is as its manifest says",
        3: "what was asked for does not go together, the installation failed, or `--check` found "
        "another image",
        4: "not root, or the host cannot be changed",
        **_LIBVIRT,
        6: "the guest did not answer in time",
    },
    ("up",): {
        0: "the VM is up, and its first boot ended well",
        3: "the GPU cannot go, or the first boot failed (the VM is left running)",
        **_CHANGES,
        5: "libvirt, QEMU or the image; the host is as it was",
        6: "nobody could log in (the host is as it was), or the first boot did not end in time "
        "(the VM is left running)",
        130: "interrupted: the host is as it was",
    },
    ("verify",): {
        0: "all guests are healthy",
        3: "at least one was checked and is not",
        4: "a file cannot be read or written; a VM's key is root's",
        6: "none is known to be unhealthy, and at least one could not be checked",
    },
    ("stop",): {0: "it is off", **_CHANGES, **_LIBVIRT},
    ("start",): {
        0: "it is on",
        3: "its devices are not as they were, or another VM has them",
        **_CHANGES,
        **_LIBVIRT,
        6: "the guest took no login in time",
    },
    ("list",): {0: "told", 4: "not root, or a host did not answer", **_LIBVIRT},
    ("down",): {
        0: "it is gone, and the host as it was",
        2: "no VM of this name",
        **_CHANGES,
        **_LIBVIRT,
    },
    ("completion",): {0: "the script is printed", 2: "no shell of this name"},
    ("repair",): {
        0: "all is well now; with `--check`: nothing is left over",
        3: "something is left for you to decide; with `--check`: something was found",
        **_CHANGES,
        **_LIBVIRT,
    },
}  # fmt: skip
"""Command -> the statuses that it is made for, and when; 1, 2 and 130 may be those of any."""

_BEGIN = "<!-- Written by scripts/docs --write, from vfio_kit/errors.py: -->\n"
_END = "<!-- until here -->\n"


def with_exits(page: str) -> str:
    """docs/exit-codes.md with its first table as the errors have it."""
    head, begin, rest = page.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    assert begin and end, "docs/exit-codes.md has lost the lines between which it is written"
    return head + begin + "\n" + "\n".join(_table()) + "\n" + end + tail


def _table() -> Iterator[str]:
    yield from table(("status", "meaning"), [(str(key), text) for key, text in MEANINGS.items()])
