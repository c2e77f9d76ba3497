"""The bars of a command's steps."""

from vfio_kit.cli.report import StepTime, timeline


def test_each_step_is_a_bar_where_it_began_and_as_long_as_it_took() -> None:
    steps = [StepTime("start it", 0, 20), StepTime("wait for SSH", 20, 80)]
    assert timeline(steps, 45) == [
        "  start it      ████                   20.0 s",
        "  wait for SSH      ████████████████   80.0 s",
    ]


def test_they_stand_in_the_order_of_their_beginning_and_the_shortest_is_seen() -> None:
    steps = [StepTime("stage", 90, 10), StepTime("keys", 0, 0), StepTime("last", 100, 0)]
    keys, stage, last = timeline(steps, 40)
    assert (keys.split(), stage.split(), last.split()) == (
        ["keys", "█", "0.0", "s"],
        ["stage", "██", "10.0", "s"],
        ["last", "█", "0.0", "s"],
    )
    assert keys.index("█") < stage.index("█") < last.index("█")
    assert len({len(line) for line in (keys, stage, last)}) == 1


def test_no_line_is_wider_than_there_is_room() -> None:
    steps = [StepTime("x" * 90, 0, 12345.6), StepTime("y", 12345.6, 1)]
    assert [len(line) for line in timeline(steps, 80)] == [80, 80]
    assert "x…  " in timeline(steps, 80)[0]


def test_of_nothing_there_is_no_timeline() -> None:
    assert timeline([], 80) == []
    assert timeline([StepTime("nothing", 0, 0)], 80) == []
