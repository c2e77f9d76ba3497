"""The recording in README: what a cast becomes."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.lab.recording.cast import MARKER, OUTPUT, Cast, Event, read, write
from tests.lab.recording.pace import pace, shorten
from tests.lab.recording.picture import picture
from tests.lab.recording.screen import chapters, text
from tests.lab.recording.transcript import transcript

SVG = "{http://www.w3.org/2000/svg}"
WAIT = 60


def session() -> Cast:
    """A command whose clock runs on one line for a minute, and one that prints in red."""
    ticks = (
        Event(1 + second / 2, OUTPUT, f"\r\x1b[K{second / 2:5.1f} s  it boots")
        for second in range(2 * WAIT)
    )
    return Cast(
        40,
        24,
        1763780000,
        "abc1234",
        "2 CPUs",
        (
            Event(0.0, MARKER, "up"),
            Event(0.1, OUTPUT, "\x1b[32mgpuhost\x1b[0m# up\r\n"),
            *ticks,
            Event(1 + WAIT, OUTPUT, "\r\x1b[K 60.0 s  it is up\r\n"),
            Event(70.0, MARKER, "scan"),
            Event(70.1, OUTPUT, "gpuhost# scan\r\n"),
            Event(70.2, OUTPUT, "\x1b[1;31mVK101\x1b[0m  a < b & c\r\n"),
        ),
    )


def test_a_cast_is_read_as_it_was_written(tmp_path: Path) -> None:
    write(session(), tmp_path / "x.cast")
    assert read(tmp_path / "x.cast") == session()


def test_what_is_drawn_over_is_not_in_the_text() -> None:
    up, scan = chapters(session())
    assert text(up.frames[-1]) == "gpuhost# up\n 60.0 s  it is up\n"
    assert text(scan.frames[-1]) == "gpuhost# scan\nVK101  a < b & c\n"


def test_the_text_has_the_true_times() -> None:
    assert f"--- up: {WAIT + 0.9:.1f} s ---" in transcript(session())


def test_a_wait_is_shortened_and_a_running_clock_has_few_readings() -> None:
    up, _ = chapters(session())
    shown = pace(up)
    assert len(up.frames) > 2 * WAIT
    assert len(shown) < 12
    assert sum(part.seconds for part in shown[:-1]) < 4


@pytest.mark.parametrize("real", [0.0, 0.3, 1.0, 30.0, 3600.0])
def test_a_wait_is_never_lengthened_nor_longer_than_two_seconds(real: float) -> None:
    assert 0 <= shorten(real) <= min(real, 2.0)


def test_the_picture_shows_each_row_while_it_is_there_and_one_page_where_nothing_moves() -> None:
    root = ET.fromstring(picture(session(), "scan"))
    groups = root.findall(f"{SVG}g")
    assert all("k" in (group.get("class") or "").split() for group in groups)
    still = ["".join(g.itertext()) for g in groups if "s" in (g.get("class") or "").split()]
    assert any("a < b & c" in words for words in still)
    assert not any("it is up" in words for words in still)


def test_colours_are_in_the_picture() -> None:
    spans = ET.fromstring(picture(session(), "scan")).iter(f"{SVG}tspan")
    assert [span.get("class") for span in spans if span.text == "VK101"] == ["red b"]
