"""Asks all guests at once, and again over the same connections."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vfio_kit.cli.verify_targets import Guest
from vfio_kit.errors import GuestError
from vfio_kit.model.health import Check, CheckStatus, VerifyReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vfio_kit.analysis.guest.expect import Expectation
    from vfio_kit.guest.runner import Runner
    from vfio_kit.guest.ssh import Connection, Hops
    from vfio_kit.model.health import CommandResult

_HERE = Check("ssh", CheckStatus.SKIPPED, "on this machine, without SSH")


@dataclass(frozen=True, slots=True)
class Questions:
    """What every guest is asked; timeout in seconds for each tool, burn_seconds 0 for no burn."""

    timeout: float
    burn_seconds: int = 0
    expectations: "tuple[Expectation, ...]" = ()


@dataclass(slots=True)
class _Held:
    """A guest and the connection to it, which is kept from round to round."""

    place: int
    guest: Guest
    connection: "Connection | None" = None
    hops: "Hops | None" = None

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = self.hops = None


class Rounds:
    """The guests, in the order asked for."""

    def __init__(self, guests: Sequence[Guest], questions: Questions) -> None:
        self._held = [_Held(place, guest) for place, guest in enumerate(guests)]
        self._questions = questions
        self._burn = _burn_program() if questions.burn_seconds else None
        self._hops: list[Hops] = []

    def ask(self) -> Iterator[tuple[int, VerifyReport]]:
        """One round: the place of each guest and what is known of it, as it comes."""
        from vfio_kit.guest.many import for_each
        from vfio_kit.guest.ssh import Hops

        # A jump host that failed is remembered for the round alone.
        hops = Hops()
        self._hops.append(hops)
        for held, report in for_each(self._held, lambda held: self._check(held, hops)):
            if isinstance(report, Exception):
                raise report
            yield held.place, report
        self._close_unused_hops()

    def close(self) -> None:
        for held in self._held:
            held.close()
        self._close_unused_hops()

    def _close_unused_hops(self) -> None:
        used = [held.hops for held in self._held]
        for hops in [hops for hops in self._hops if not any(hops is other for other in used)]:
            hops.close()
            self._hops.remove(hops)

    def _check(self, held: _Held, hops: "Hops") -> VerifyReport:
        from vfio_kit.analysis.guest.expect import with_expectations
        from vfio_kit.analysis.guest.verification import judge_guest, unreachable

        begin = time.monotonic()
        guest = held.guest
        try:
            results = self._probe(held, hops)
        except GuestError as error:
            held.close()
            report = unreachable(guest.label, error.message, error.hint)
        else:
            extra = (_HERE,) if guest.target is None else ()
            report = judge_guest(guest.label, results, guest.planned, extra=extra)
        report = with_expectations(report, self._questions.expectations)
        return replace(report, seconds=time.monotonic() - begin)

    def _probe(self, held: _Held, hops: "Hops") -> "Mapping[str, CommandResult]":
        from vfio_kit.guest.local import LocalRunner
        from vfio_kit.guest.ssh import Connection

        target = held.guest.target
        if target is None:
            return self._run(LocalRunner())
        if held.connection is not None and held.connection.alive:
            # It stood since the last round; where it breaks now, the guest may have rebooted.
            with contextlib.suppress(GuestError):
                return self._run(held.connection)
        held.close()
        held.connection, held.hops = Connection(target, hops), hops
        return self._run(held.connection)

    def _run(self, runner: "Runner") -> "Mapping[str, CommandResult]":
        from vfio_kit.guest.probe import probe

        questions = self._questions
        return probe(
            runner, questions.timeout, burn=self._burn, burn_seconds=questions.burn_seconds
        )


def _burn_program() -> str:
    from vfio_kit.assets import asset_dir

    return (asset_dir("templates") / "guest/burn.py").read_text("utf-8")
