"""What an operator expects of a guest's GPUs (`verify --expect`), read and judged.

gpu_count=1,cc=5.2,driver=470,memory_mib=8127±2%,gpu0.link_width>=8
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from vfio_kit.errors import UsageError
from vfio_kit.model.health import Check, CheckStatus, GpuHealth, VerifyReport

CODE = "expect"
_CAUSE = "not-as-expected"
_UNKNOWN = "not known"


class Kind(Enum):
    """How values of a key are compared, and which operators they take."""

    NUMBER = "=, >=, <=; with = a tolerance, ±2% or ±50 (or +-2%)"
    VERSION = "=, >=, <=; = holds for all that begin so: 470 for 470.256.02"
    TEXT = "=; capitals do not matter"
    SWITCH = "=; on or off, enabled or disabled, none"


@dataclass(frozen=True, slots=True)
class Key:
    """A row: what stands before the operator, and where its value comes from."""

    name: str
    kind: Kind
    of: Callable[[GpuHealth], str | int | None]


GPU_COUNT = Key("gpu_count", Kind.NUMBER, lambda _: None)
"""The one key that is no GPU's own."""

KEYS: tuple[Key, ...] = (
    GPU_COUNT,
    Key("name", Kind.TEXT, lambda gpu: gpu.name),
    Key("cc", Kind.VERSION, lambda gpu: gpu.compute_capability),
    Key("driver", Kind.VERSION, lambda gpu: gpu.driver),
    Key("cuda", Kind.VERSION, lambda gpu: gpu.cuda),
    Key("memory_mib", Kind.NUMBER, lambda gpu: gpu.memory_mib),
    Key("bar1_mib", Kind.NUMBER, lambda gpu: gpu.bar1_mib),
    Key("link_width", Kind.NUMBER, lambda gpu: gpu.link.width if gpu.link else None),
    Key("ecc", Kind.SWITCH, lambda gpu: gpu.ecc),
    Key("persistence", Kind.SWITCH, lambda gpu: gpu.persistence),
)


@dataclass(frozen=True, slots=True)
class Expectation:
    """One of them, as it was written (`text`), and what it means.

    gpu        the one that it is about, counted from 0 in the order of PCI addresses; None: all.
    operator   =, >= or <=.
    tolerance  how far a number may be off, in the key's own unit.
    """

    text: str
    key: Key
    operator: str
    value: str
    gpu: int | None = None
    tolerance: float = 0.0


_ITEM = re.compile(
    r"(?:gpu(?P<gpu>\d{1,3})\.)?(?P<key>\w+)\s*(?P<operator>>=|<=|==?|[<>])\s*(?P<value>.*)"
)
_NUMBER = re.compile(
    r"(?P<number>\d{1,12}(?:\.\d{1,6})?)(?:\s*(?:±|\+-|\+/-)\s*"
    r"(?P<by>\d{1,12}(?:\.\d{1,6})?)\s*(?P<percent>%?))?"
)
_VERSION = re.compile(r"\d{1,6}(?:\.\d{1,6}){0,3}")
_SWITCHES = {"on": "enabled", "off": "disabled"}
_OF_SWITCHES = ("enabled", "disabled", "none")


def parse(text: str) -> tuple[Expectation, ...]:
    """What one --expect says; raises UsageError that names the place and the value."""
    found, place = [], 0
    for item in text.split(","):
        if item.strip():
            found.append(_parse_item(item.strip(), place + len(item) - len(item.lstrip()) + 1))
        place += len(item) + 1
    if not found:
        raise _wrong(text, 1, "expects nothing")
    return tuple(found)


def _wrong(item: str, place: int, why: str, hint: str = "") -> UsageError:
    hint = hint or "keys: " + ", ".join(key.name for key in KEYS)
    return UsageError(f"--expect, character {place}: {item!r} {why}", hint)


def _parse_item(item: str, place: int) -> Expectation:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise _wrong(item, place, "is not KEY=VALUE, KEY>=VALUE or KEY<=VALUE")
    key = next((key for key in KEYS if key.name == match["key"]), None)
    if key is None:
        raise _wrong(match["key"], place, "is no key")
    operator, value = match["operator"], match["value"]
    operator = "=" if operator == "==" else operator
    allowed = f"{key.name} takes {key.kind.value}"
    if operator in "<>" or (operator != "=" and key.kind in (Kind.TEXT, Kind.SWITCH)):
        raise _wrong(operator, place + match.start("operator"), "cannot be used here", allowed)
    if match["gpu"] and key is GPU_COUNT:
        raise _wrong(item, place, "is about one GPU, and the count is of all", "gpu_count=1")
    gpu = int(match["gpu"]) if match["gpu"] else None
    plain = Expectation(item, key, operator, value, gpu)
    read = _READERS[key.kind](plain)
    if read is None:
        raise _wrong(value, place + match.start("value"), f"is no value for {key.name}", allowed)
    return read


def _read_number(plain: Expectation) -> Expectation | None:
    match = _NUMBER.fullmatch(plain.value)
    if match is None or (match["by"] and plain.operator != "="):
        return None
    tolerance = float(match["by"] or 0)
    if match["percent"]:
        tolerance *= float(match["number"]) / 100
    return replace(plain, value=match["number"], tolerance=tolerance)


def _read_version(plain: Expectation) -> Expectation | None:
    return plain if _VERSION.fullmatch(plain.value) else None


def _read_text(plain: Expectation) -> Expectation | None:
    return plain if plain.value else None


def _read_switch(plain: Expectation) -> Expectation | None:
    value = plain.value.casefold()
    value = _SWITCHES.get(value, value)
    return replace(plain, value=value) if value in _OF_SWITCHES else None


_READERS: dict[Kind, Callable[[Expectation], Expectation | None]] = {
    Kind.NUMBER: _read_number,
    Kind.VERSION: _read_version,
    Kind.TEXT: _read_text,
    Kind.SWITCH: _read_switch,
}


def judge(expectations: Iterable[Expectation], gpus: Iterable[GpuHealth]) -> Check:
    """The rung `expect`: what holds, or each that does not, with what was found."""
    asked = tuple(expectations)
    ordered = sorted(gpus, key=lambda gpu: (gpu.bus_id is None, (gpu.bus_id or "").casefold()))
    wrong = [words for each in asked for words in _differences(each, ordered)]
    if wrong:
        remedy = "compare with what the guest was made from; vfio-kit list; nvidia-smi -q in it"
        return Check(CODE, CheckStatus.FAILED, "; ".join(wrong), remedy, _CAUSE)
    return Check(CODE, CheckStatus.OK, ", ".join(each.text for each in asked))


def with_expectations(report: VerifyReport, expectations: Iterable[Expectation]) -> VerifyReport:
    """The report with its rung `expect`; the same where nothing is expected, or nothing was asked.

    The lowest rung that failed explains what is not known because of it.
    """
    asked = tuple(expectations)
    rung = next((check for check in report.checks if check.code == CODE), None)
    if not asked or (rung is not None and rung.status is CheckStatus.NOT_RUN):
        return report
    check = judge(asked, report.gpus)
    failed = [other.code for other in report.checks if other.status is CheckStatus.FAILED]
    if failed and (not report.gpus or _UNKNOWN in check.evidence):
        check = replace(check, explained_by=failed[0])
    others = tuple(other for other in report.checks if other.code != CODE)
    return replace(report, checks=(*others, check))


def _differences(expected: Expectation, gpus: list[GpuHealth]) -> list[str]:
    """In words, each GPU that is otherwise."""
    if expected.key is GPU_COUNT:
        holds = _holds(expected, len(gpus))
        return [] if holds else [f"{expected.text}: found {len(gpus)}"]
    if expected.gpu is not None and expected.gpu >= len(gpus):
        return [f"{expected.text}: there is no such GPU, but {len(gpus)} in all"]
    chosen = gpus if expected.gpu is None else [gpus[expected.gpu]]
    if not chosen:
        return [f"{expected.text}: {_UNKNOWN}, there is no GPU"]
    found = [(gpu, expected.key.of(gpu)) for gpu in chosen]
    return [
        f"{expected.text}: found {_UNKNOWN if value is None else value}"
        + (f" at {gpu.bus_id}" if gpu.bus_id and len(gpus) > 1 else "")
        for gpu, value in found
        if not _holds(expected, value)
    ]


def _holds(expected: Expectation, found: str | int | None) -> bool:
    match expected.key.kind:
        case Kind.NUMBER:
            return isinstance(found, int) and _number_holds(expected, found)
        case Kind.VERSION:
            return found is not None and _version_holds(expected, str(found))
        case Kind.TEXT:
            names = str(found or "").casefold(), expected.value.casefold()
            # Branches from 495 on put the maker's name in front.
            return names[0].removeprefix("nvidia ") == names[1].removeprefix("nvidia ")
        case Kind.SWITCH:
            return (found is None and expected.value == "none") or (
                str(found).casefold() == expected.value
            )


def _number_holds(expected: Expectation, found: int) -> bool:
    value = float(expected.value)
    if expected.operator == "=":
        # A percentage has no exact form; a billionth is no matter.
        return abs(found - value) <= expected.tolerance + 1e-9 * value
    return found >= value if expected.operator == ">=" else found <= value


def _version_holds(expected: Expectation, found: str) -> bool:
    if _VERSION.fullmatch(found) is None:
        return False
    wanted = tuple(map(int, expected.value.split(".")))
    parts = tuple(map(int, found.split(".")))
    if expected.operator == "=":
        return parts[: len(wanted)] == wanted
    if expected.operator == ">=":
        return parts >= wanted
    # 470.256.02 is no later than 470: what was not written is not compared.
    return parts[: len(wanted)] <= wanted
