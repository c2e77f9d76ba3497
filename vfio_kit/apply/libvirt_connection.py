"""How libvirt is spoken to: in bounded time, and once more where it was restarted meanwhile.

Calls that change something may hang, where a driver does not let go of its device or QEMU does not
end; so may questions, where libvirtd does. No call is waited for without end.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from vfio_kit.apply.bounded import Hung, bounded, interrupts_held_back
from vfio_kit.errors import HypervisorError

try:
    import libvirt as libvirt
except ImportError:  # an extra: everything but up, down and list works without it
    libvirt = None

_DETAILS = logging.getLogger(__name__)
URI = "qemu:///system"
LIMIT = 120.0
"""Seconds for a call that changes something."""
LOG = "see: journalctl -u libvirtd -n 50"
_QUESTION = 60.0
"""Seconds for a call that changes nothing."""
_GOODBYE = 5.0
"""Seconds for the end of a connection, which is over in any case when this process is."""
_RESTART = 20.0
"""Seconds for a libvirtd that is being restarted to be there again."""
_HANGS = (
    "see which process hangs in the kernel, and where: ps -eo pid,stat,wchan:32,args | grep ' D'; "
    "dmesg | tail -50"
)
_DEAF = "libvirtd is there and says nothing: systemctl status libvirtd; systemctl restart libvirtd"
_Answer = TypeVar("_Answer")


class Connection:
    """An open connection; every failure of libvirt becomes a HypervisorError.

    raw  libvirt's own object, for the questions and the changes that `ask` and `change` are given.
    """

    def __init__(self, uri: str, patience: float = 0) -> None:
        """patience: seconds for a libvirtd that cannot be reached, as while it is restarted."""
        if libvirt is None:
            raise HypervisorError(
                "the Python module libvirt is missing",
                "on Debian and Ubuntu: apt-get install python3-libvirt, and a venv made with "
                "--system-site-packages; elsewhere: pip install 'vfio-kit[libvirt]', which needs "
                "libvirt's headers, pkg-config and a compiler",
            )
        _hush()
        self._uri = uri
        self.raw = self._open(patience)

    def _open(self, patience: float) -> Any:
        end = time.monotonic() + patience
        while True:
            try:
                return bounded(
                    f"libvirt's answer at {self._uri}",
                    _QUESTION,
                    lambda: libvirt.open(self._uri),
                    _DEAF,
                )
            except libvirt.libvirtError as error:
                if time.monotonic() < end:
                    time.sleep(0.5)
                    continue
                raise HypervisorError(
                    f"cannot connect to libvirt at {self._uri}: {_said(error)}",
                    "is libvirtd there and running? apt-get install libvirt-daemon-system; "
                    "systemctl start libvirtd",
                ) from None

    def ask(self, what: str, question: Callable[[], _Answer]) -> _Answer:
        """What libvirt answers; once more where it was restarted since the last answer."""
        asked = f"libvirt's attempt to {what}"
        try:
            return bounded(asked, _QUESTION, question, _DEAF)
        except libvirt.libvirtError as error:
            if self.raw.isAlive():
                raise HypervisorError(f"libvirt could not {what}: {_said(error)}", LOG) from None
        self.raw = self._open(_RESTART)
        with _reporting(what):
            return bounded(asked, _QUESTION, question, _DEAF)

    def change(
        self, what: str, call: Callable[[], object], limit: float = LIMIT, hint: str = ""
    ) -> None:
        """Raises Hung where the call does not end in time; it is not made again."""
        _DETAILS.debug("libvirt: %s", what)
        with _reporting(what, hint or LOG):
            bounded(f"libvirt's attempt to {what}", limit, call, _HANGS)

    def close(self) -> None:
        # A libvirtd that does not answer would keep the command from its end, and from Ctrl-C.
        with suppress(Hung, libvirt.libvirtError):
            bounded("libvirt's goodbye", _GOODBYE, self.raw.close)


def wake(uri: str = URI) -> None:
    """Has libvirt start, and learn what its QEMU can, while this process does something else.

    A libvirtd that systemd starts at the first connection, and that has not seen this QEMU yet,
    takes seconds for both. Returns at once; what fails is seen by the connection that counts.
    """
    if libvirt is None:
        return
    _hush()

    def knock() -> None:
        with suppress(libvirt.libvirtError):
            connection = libvirt.open(uri)
            connection.getDomainCapabilities()
            connection.close()

    # As in `bounded`: signals are the main thread's, which would not notice those that come here.
    with interrupts_held_back():
        threading.Thread(target=knock, daemon=True).start()


def _hush() -> None:
    """libvirt prints every error to stderr by itself unless a handler is there."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)


@contextmanager
def _reporting(what: str, hint: str = LOG) -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        raise HypervisorError(f"libvirt could not {what}: {_said(error)}", hint) from None


def _said(error: Any) -> str:
    return str(error.get_error_message() or error)
