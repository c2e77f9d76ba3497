"""Calls that may never come back: they are waited for as long as is reasonable, and no longer."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from vfio_kit.errors import HypervisorError

_Result = TypeVar("_Result")
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command in good order: its main thread takes them, and no other."""


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """What came meanwhile is raised at the end; a thread that is started in it gets none at all."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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

    with interrupts_held_back():
        threading.Thread(target=run, daemon=True).start()
        back.wait(seconds)
    if not back.is_set():
        raise Hung(f"{what} has not ended within {seconds:.0f} s", hint)
    if errors:
        raise errors[0]
    return results[0]
