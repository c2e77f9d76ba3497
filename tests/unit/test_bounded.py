"""Calls that may hang: what they give, how long they may take, and when an interrupt is heard."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from vfio_kit.apply.bounded import Hung, bounded
from vfio_kit.errors import UsageError


def test_what_a_call_returns_is_returned() -> None:
    assert bounded("the answer", 10, lambda: 42) == 42


def test_what_a_call_raises_is_raised() -> None:
    def fail() -> None:
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        bounded("to fail", 10, fail)


def test_a_call_that_does_not_come_back_is_given_up_and_told() -> None:
    never = threading.Event()
    begin = time.monotonic()
    with pytest.raises(Hung) as caught:
        bounded("libvirt's attempt to start vm", 0.2, never.wait, "see dmesg")
    assert 0.2 <= time.monotonic() - begin < 5
    assert caught.value.message == "libvirt's attempt to start vm has not ended within 0 s"
    assert (caught.value.hint, caught.value.exit_code) == ("see dmesg", 5)
    never.set()


_INTERRUPTED = """
import sys, time
from vfio_kit.apply.bounded import bounded
def call():
    print("begun", flush=True)
    time.sleep(float(sys.argv[1]))
    print("ended", flush=True)
try:
    bounded("to wait", float(sys.argv[2]), call)
except BaseException as error:
    print(type(error).__name__, flush=True)
"""


def interrupted(seconds: float, limit: float) -> list[str]:
    """What a process says that gets SIGINT, twice at once, in the middle of a call."""
    argv = [sys.executable, "-c", _INTERRUPTED, str(seconds), str(limit)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "begun\n"
        for _ in range(2):
            process.send_signal(signal.SIGINT)
        return process.communicate(timeout=20)[0].split()


def test_an_interrupt_is_heard_when_the_call_has_ended() -> None:
    assert interrupted(0.5, 10) == ["ended", "KeyboardInterrupt"]


def test_an_interrupt_is_heard_when_a_call_is_given_up_which_keeps_no_program_from_its_end() -> (
    None
):
    assert interrupted(60, 0.5) == ["KeyboardInterrupt"]
