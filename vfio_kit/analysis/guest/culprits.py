"""PURE: from the ends of a guest's logs to what went wrong, in words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vfio_kit.analysis.guest.first_boot import Provision, Record
from vfio_kit.knowledge.pains import PAINS, Pain
from vfio_kit.knowledge.provision_steps import PROVISION_STEPS

_BEFORE, _AFTER = 9, 2
"""Lines of a log that are shown around the one that tells of the pain."""
_MOST = 200
"""Characters of a line."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a first boot failed; texts are empty where nothing is known."""

    pain: str = ""
    meaning: str = ""
    remedy: str = ""
    log: str = ""
    """The file that says so."""
    lines: tuple[str, ...] = ()
    """What it says."""


def find_pain(text: str) -> tuple[Pain, int] | None:
    """The pain that a log tells of, and the number, from 0, of the last line that does."""
    lines = text.split("\n")
    for pain in PAINS:
        for number in range(len(lines) - 1, -1, -1):
            if any(re.search(pattern, lines[number]) for pattern in pain.texts):
                return pain, number
    return None


def diagnose(provision: Provision | None, logs: Sequence[Record]) -> Diagnosis:
    """What the logs tell, the first of them first; else what the failed step says of itself.

    logs: those that the state file names stand in front.
    """
    for log in logs:
        found = find_pain(log.text)
        if found is not None:
            pain, number = found
            lines = log.text.split("\n")[max(0, number - _BEFORE) : number + 1 + _AFTER]
            return Diagnosis(pain.name, pain.meaning, pain.remedy, log.name, _shown(lines))
    first = next(iter(logs), Record("", ""))
    last = first.text.split("\n")[-_BEFORE - _AFTER :]
    name, meaning, remedy = _of_step(provision)
    return Diagnosis(name, meaning, remedy, first.name, _shown(last))


def _of_step(provision: Provision | None) -> tuple[str, str, str]:
    """Name, meaning and remedy of the step's failure, from its reason and from the tables."""
    if provision is None or provision.state != "failed":
        return "", "", ""
    by_reason = find_pain(provision.reason)
    if by_reason is not None:
        return by_reason[0].name, by_reason[0].meaning, by_reason[0].remedy
    for pain in PAINS:
        if provision.step in pain.steps:
            return pain.name, pain.meaning, pain.remedy
    steps = [step for step in PROVISION_STEPS if step.code == provision.step]
    return ("", steps[0].pain, steps[0].remedy) if steps else ("", "", "")


def _shown(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines, fit for a terminal; compilers point at things, so blanks stay as they are."""
    return tuple(
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line.expandtabs())[
            :_MOST
        ]
        for line in lines
        if line.strip()
    )
