"""The benchmarks: what a row says of its runs, what is kept of a run, and the page of it."""

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import BENCHMARKS, page, results, table
from benchmarks.results import Measured, document, merged
from benchmarks.row import Bound, Floor, Local, Row
from benchmarks.setting import Computer, Setting, computer
from benchmarks.timing import in_turns, run

INSIDE = Path(page.__file__).parent / "inside"
MACHINE = Computer("A CPU", 2, 4096, "Debian", "6.1.0", "3.11.2", "no virtual machine")
MORNING = Setting("2026-03-01 02:59", "abc1234", 0.04, MACHINE)
EVENING = replace(MORNING, date="2026-03-01 21:00", host=replace(MACHINE, cpu="An emulated CPU"))

GOOD = Row("good", (0.3, 0.1, 0.2), Floor("least", 0.1), (Bound("× least", 2.0, 3.0),))
BAD = Row("bad", (4.0,), None, (Bound("MiB", 61.0, 60.0),))


def test_a_row_has_median_spread_and_its_ratio_to_the_floor() -> None:
    assert (GOOD.median, GOOD.ratio, GOOD.holds) == (0.2, 2.0, True)
    (line,) = table.lines(Measured("x", MORNING, (GOOD,)))
    assert " ".join(line.split()) == (
        "x good 200 ms 100 to 300 ms 3 2.00 × least 2.00 ≤ 3.00 × least"
    )


def test_a_bound_that_does_not_hold_is_seen() -> None:
    measured = Measured("x", MORNING, (GOOD, BAD))
    assert not BAD.holds and not measured.holds
    last = list(table.lines(measured))[-1]
    assert last.endswith("61.00 > 60.00 MiB  TOO MUCH")
    assert [row["holds"] for row in document([measured])["benchmarks"][0]["rows"]] == [True, False]


def test_a_value_at_its_bound_holds() -> None:
    assert Bound("x", 3.0, 3.0).holds


def test_ways_are_taken_in_turns_and_the_first_round_does_not_count() -> None:
    done: list[str] = []

    def way(name: str) -> int:
        done.append(name)
        return len(done)

    # mypy does not infer the type of a lambda with a default.
    found = in_turns({name: lambda n=name: way(n) for name in "abc"}, 2)  # type: ignore[misc]
    assert "".join(done) == "abcbcacab"
    assert found == {"a": (6, 8), "b": (4, 9), "c": (5, 7)}


def test_a_command_is_timed_from_its_start_to_its_end() -> None:
    assert 0.05 <= run(["sleep", "0.05"]) < 5
    with pytest.raises(SystemExit, match="not measured: sh -c 'exit 3'"):
        run(["sh", "-c", "exit 3"])


def test_what_was_not_measured_again_is_kept_with_its_run() -> None:
    before = (Measured("x", MORNING, (GOOD,)), Measured("y", MORNING, (BAD,)))
    now = Measured("x", EVENING, (BAD,))
    assert merged(before, [now]) == (now, before[1])


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    found = (Measured("x", MORNING, (GOOD, BAD)), Measured("y", EVENING, (GOOD,)))
    assert results.read(file) == ()
    results.write(found, file)
    assert results.read(file) == found
    file.write_text(json.dumps({"schema": results.SCHEMA, "benchmarks": [{"name": "x"}]}))
    with pytest.raises(SystemExit, match="holds no results"):
        results.read(file)


def test_a_machine_is_told_by_its_own_files() -> None:
    found = computer(
        "processor\t: 0\nmodel name\t: AMD EPYC\n",
        "MemTotal:       24593544 kB\n",
        'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        2,
        "6.1.0",
        "3.11.2",
        "qemu",
    )
    assert str(found) == (
        "AMD EPYC, 2 CPUs, 23 GiB of memory, a virtual machine (QEMU, its CPU emulated: TCG); "
        "Debian GNU/Linux 12 (bookworm), Linux 6.1.0, Python 3.11.2"
    )


@pytest.mark.parametrize("script", sorted(INSIDE.glob("*.py")), ids=lambda path: path.stem)
def test_what_runs_in_the_virtual_host_needs_nothing_of_ours(script: Path) -> None:
    """Debian's Python, and python3-libvirt."""
    wanted = set()
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            wanted |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            wanted.add(str(node.module).split(".")[0])
    assert wanted and wanted <= {*sys.stdlib_module_names, "libvirt"}


# docs/benchmarks.md


def test_the_page_is_written_from_the_kept_results(request: pytest.FixtureRequest) -> None:
    written = page.page(BENCHMARKS, results.read())
    if request.config.getoption("--update-goldens"):
        page.FILE.write_text(written, "utf-8")
    assert page.FILE.read_text("utf-8") == written, (
        "pytest tests/unit --update-goldens writes it anew"
    )


def test_the_page_says_what_was_measured_where_and_what_was_not() -> None:
    ways = tuple(
        Local(name, name.upper(), 1, f"How {name}.", f"What {name} says.", lambda _: ())
        for name in ("x", "y", "z")
    )
    found = (Measured("x", MORNING, (GOOD, BAD)), Measured("y", EVENING, (GOOD,)))
    lines = page.page(ways, found).splitlines()
    assert lines.count("How x.") == lines.count("What z says.") == 1
    (bad,) = (line for line in lines if line.startswith("| x | bad"))
    (good,) = (line for line in lines if line.startswith("| y | good"))
    assert "61.00 > 60.00 MiB: **not passed**" in bad and bad.endswith("| 1 |")
    assert "2.00 ≤ 3.00 × least: passed" in good and good.endswith("| 2 |")
    assert f"| 1 | 2026-03-01 02:59 | abc1234 | 0.04 | {MACHINE} |" in lines
    assert [line for line in lines if "Not measured yet" in line] == [
        "`python -m benchmarks --only z`. **Not measured yet.**"
    ]


def test_what_is_kept_is_of_benchmarks_that_there_are() -> None:
    names = [each.name for each in BENCHMARKS]
    assert len(set(names)) == len(names)
    assert {one.name for one in results.read()} <= set(names)
