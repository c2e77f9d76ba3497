"""The results of the last run of each benchmark, kept in results.json; the page is made of them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.row import Row
from benchmarks.setting import Setting

SCHEMA = "vfio-kit/benchmarks/1"
FILE = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class Measured:
    """One benchmark's rows, and when and where they were measured."""

    name: str
    setting: Setting
    rows: tuple[Row, ...]

    @property
    def holds(self) -> bool:
        return all(row.holds for row in self.rows)


_ADAPTER = TypeAdapter(tuple[Measured, ...])


def document(results: Iterable[Measured]) -> dict[str, Any]:
    """As JSON has it: what was measured, and median, ratio and verdict, which come of it."""
    found = _ADAPTER.dump_python(tuple(results), mode="json")
    return {"schema": SCHEMA, "benchmarks": [_derived(one) for one in found]}


def _derived(found: dict[str, Any]) -> dict[str, Any]:
    (measured,) = _ADAPTER.validate_python([found])
    for plain, row in zip(found["rows"], measured.rows, strict=True):
        plain["median"], plain["holds"] = row.median, row.holds
        plain["ratio"] = None if row.ratio is None else round(row.ratio, 3)
    return found


def read(file: Path = FILE) -> tuple[Measured, ...]:
    """The kept results; SystemExit where the file is none of ours, nothing where it is missing."""
    if not file.exists():
        return ()
    try:
        found = json.loads(file.read_text("utf-8"))
        if found["schema"] != SCHEMA:
            raise SystemExit(f"{file}: its schema is {found['schema']}, not {SCHEMA}")
        return _ADAPTER.validate_python(found["benchmarks"])
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise SystemExit(f"{file} holds no results of benchmarks: {error}") from None


def merged(kept: Iterable[Measured], new: Iterable[Measured]) -> tuple[Measured, ...]:
    """The new ones, and of the kept ones those that were not measured again."""
    last = {one.name: one for one in kept} | {one.name: one for one in new}
    return tuple(last.values())


def write(results: Iterable[Measured], file: Path = FILE) -> None:
    file.write_text(json.dumps(document(results), indent=1) + "\n", "utf-8")
