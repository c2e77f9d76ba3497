"""Watches a guest's first boot over one connection, which is made anew only after a reboot."""

import contextlib
import shlex
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Protocol

from vfio_kit.analysis.guest.first_boot import FirstBoot, Record, RecordReader
from vfio_kit.errors import GuestError
from vfio_kit.guest.runner import CommandTimeout, Runner

_FOLLOW = r"""
declare -A seen
record() { # NAME LINE...
  local name=$1
  shift
  printf '%s %d\n' "$name" "$#"
  [ $# = 0 ] || printf '%s\n' "$@"
}
changed() { # NAME FILE: the file's content, where it is another than the last time
  local -a lines=()
  { mapfile -t lines <"$2"; } 2>/dev/null
  local IFS=$'\n'
  [ "${lines[*]-}" = "${seen[$1]-}" ] || { seen[$1]=${lines[*]}; record "$1" "${lines[@]}"; }
}
read -r boot </proc/sys/kernel/random/boot_id
record boot-id "$boot"
command -v cloud-init >/dev/null || record without absent
ticks=0
while :; do
  changed provision /var/lib/vfio-kit/provision.state
  changed cloud-init /run/cloud-init/status.json
  if [ ! -e /run/cloud-init/status.json ]; then
    ticks=$((ticks + 1))
    [ ! -e /run/cloud-init/disabled ] || [ $ticks != 1 ] || record without disabled
    [ $ticks != 30 ] || record without silent
  fi
  read -r -t 1 _
  [ $? -gt 128 ] || exit 0
done
"""

FOLLOW = f"exec bash -c {shlex.quote(_FOLLOW)}"
"""Prints a record (analysis/guest/first_boot) whenever something has changed, until nobody listens.

One shell and its builtins, once a second: in an emulated guest every process that is started costs
tens of milliseconds. `read` is the clock, and its end of file says that the connection is gone.
"""

_CULPRITS = r"""
if [ "$(id -u)" != 0 ] && sudo -n true 2>/dev/null; then exec sudo -n sh -c "$1" sh "$@"; fi
shift
show() { # NAME: the last lines of stdin, as a record
  text=$(tail -c 20000 | tr '\r' '\n' | tr -d '\000' | grep -v '^(Reading database' | tail -n 40
    echo .)
  printf '%s %d\n%s' "$1" "$(printf %s "$text" | wc -l)" "${text%.}"
}
from() { # FILE
  [ ! -f "$1" ] || show "$1" <"$1"
}
for file in "$@"; do from "$file"; done
from "$(find /var/lib/dkms -path '*/build/make.log' -exec ls -t {} + 2>/dev/null | head -n 1)"
from /var/log/apt/term.log
from /var/log/cloud-init-output.log
dmesg | show dmesg
"""


class Followed(Runner, Protocol):
    """A Runner that also gives a command's lines as they come: guest.ssh.Connection."""

    def lines(self, command: str, timeout: float) -> Generator[str | None, None, None]:
        """Lines of a command, and None in every second without one."""
        ...


class NeverBack(GuestError):
    """The guest could be logged in to, went away, and did not come back."""


class NotUnderstood(GuestError):
    """The guest can be logged in to, and says what makes no sense."""


_MOST_MUTE = 5
"""Connections in a row without a single record; one that reboots may cut off a few."""

Reach = Callable[[], AbstractContextManager[Followed]]
"""Logs in to the guest, waiting for it; raises GuestError where that is in vain."""


def observe(
    reach: Reach,
    boot: FirstBoot,
    deadline: float,
    show: Callable[[FirstBoot], None],
    *,
    at_end: Callable[[FirstBoot, Followed], None] = lambda _boot, _connection: None,
) -> FirstBoot:
    """Follows a first boot to its end, across reboots; returns what is known then.

    deadline  on the monotonic clock; CommandTimeout when the first boot has not ended by then, and
              NeverBack where the guest was away.
    show      called with every change, and about once a second; what it raises ends the watching.
    at_end    called with the connection that saw the end, while that still stands.
    """
    mute = 0
    while True:
        try:
            connection = reach()
        except GuestError as error:
            if not boot.boots:
                raise
            raise NeverBack(f"it did not come back: {error.message}", error.hint) from None
        with connection as held:
            boot = _follow(held, boot, deadline, show)
            if boot.ending is not None:
                at_end(boot, held)
                return boot
        mute = 0 if boot.connected else mute + 1
        if mute == _MOST_MUTE:
            raise NotUnderstood("it cannot be watched: bash in the guest ends without a word")
        boot = boot.lost()
        show(boot)


def _follow(
    connection: Followed, boot: FirstBoot, deadline: float, show: Callable[[FirstBoot], None]
) -> FirstBoot:
    """What is known when the first boot has ended or the connection has broken.

    `connected` is true where the guest said anything at all in this connection.
    """
    boot = boot.lost()
    reader = RecordReader()
    coming = connection.lines(FOLLOW, max(1.0, deadline - time.monotonic()))
    try:
        with contextlib.closing(coming):
            for line in coming:
                record = None if line is None else reader.feed(line)
                if record is not None:
                    boot = boot.after(record)
                show(boot)
                if boot.ending is not None:
                    return boot
    except CommandTimeout:
        raise
    except ValueError as error:
        raise NotUnderstood(f"it says what cannot be understood: {error}") from None
    except GuestError:
        return boot  # the connection broke
    return boot


def last_lines(runner: Runner, *paths: str, timeout: float = 60) -> tuple[Record, ...]:
    """The ends of the logs that may say why a first boot failed; those of `paths` come first.

    Each is a Record with the file's path as its name, or `dmesg`. None where the guest gives none.
    """
    words = shlex.join([_CULPRITS, *paths])
    found: dict[str, Record] = {}
    with contextlib.suppress(GuestError, ValueError):  # what is known already is said anyway
        result = runner.run(f'set -- {words}; eval "$1"', timeout)
        reader = RecordReader()
        for line in result.stdout.split("\n")[:-1]:
            record = reader.feed(line)
            if record is not None:
                found.setdefault(record.name, record)
    return tuple(found.values())
