"""The same work for many machines at once."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 128
"""Machines at once. A thread waits nearly all the time, for a machine that works; what bounds the
number is memory (about 1 MiB each) and open files (up to five each, of 1024 as a rule)."""


def for_each(
    items: Iterable[Item], work: Callable[[Item], Result], most: int = MOST
) -> Generator[tuple[Item, Result | Exception], None, None]:
    """Does `work` for every item, at most `most` at a time; yields each as it ends.

    What `work` raises is the result of that item and stops no other. Whoever stops iterating
    (Ctrl-C, an error, close) waits for nothing: no item is begun any more, and the threads do not
    keep the process from exiting.
    """
    todo: queue.SimpleQueue[Item] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Item, Result | Exception]] = queue.SimpleQueue()
    stopped = threading.Event()
    number = 0
    for item in items:
        todo.put(item)
        number += 1

    def worker() -> None:
        while not stopped.is_set():
            try:
                item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((item, work(item)))
            except Exception as error:  # noqa: BLE001  (handed over, as a Future does)
                done.put((item, error))

    try:
        for _ in range(min(most, number)):
            # Daemons: a machine that does not answer keeps nobody from exiting.
            threading.Thread(target=worker, daemon=True).start()
        for _ in range(number):
            yield done.get()
    finally:
        stopped.set()
