"""Calls that may never come back: they are waited for as long as is reasonable, and no longer."""

import signal
import threading
from collections.abc import Callable
from typing import TypeVar

from vfio_kit.errors import HypervisorError

_Result = TypeVar("_Result")
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command in good order: its main thread takes them, and no other."""


class Hung(HypervisorError):
    """A call has not come back in time. It may still do so, and what it does may still happen."""


def bounded(what: str, seconds: float, call: Callable[[], _Result], hint: str = "") -> _Result:
    """What `call` returns or raises; Hung where it takes longer than that.

    Signals that would interrupt it are held back until then, so that nothing is undone that is in
    the middle of being done. The call runs in a thread that does not keep the program from its end.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []
    back = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001  (raised below, by whoever waits)
            errors.append(error)
        finally:
            back.set()

    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)  # the thread inherits it
    try:
        threading.Thread(target=run, daemon=True).start()
        back.wait(seconds)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # raises what came meanwhile
    if not back.is_set():
        raise Hung(f"{what} has not ended within {seconds:.0f} s", hint)
    if errors:
        raise errors[0]
    return results[0]
