"""What becomes of a first boot: from what a guest says to one ending, across reboots."""

import json
from dataclasses import replace

import pytest

from tests.unit.fixtures import text
from vfio_kit.analysis.guest.cloud_init import STAGES, parse_run
from vfio_kit.analysis.guest.first_boot import (
    MOST_REBOOTS,
    Activity,
    Ending,
    FirstBoot,
    Record,
    RecordReader,
    parse_provision,
)

STATE = """state={state}
step={step}
title=install the driver
number=6
of=12
boot={boot}
time=1764000000
mode={mode}
reason={reason}
log=/var/log/vfio-kit-provision.log
culprit=/var/log/apt/term.log
"""


def boot(number: int) -> Record:
    return Record("boot-id", f"boot-{number}")


def stages(ended: int, begun: int | None = None, last: dict[str, object] | None = None) -> Record:
    """status.json with this many stages ended; `last`: more of the last one that was begun."""
    begun = ended if begun is None else begun
    document: dict[str, object] = {"stage": None, "datasource": None}
    for number, name in enumerate(STAGES):
        document[name] = {
            "errors": [],
            "start": 100.0 + number if number < begun else None,
            "finished": 100.5 + number if number < ended else None,
            **(last or {} if number == begun - 1 else {}),
        }
    return Record("cloud-init", json.dumps({"v1": document}, indent=1))


def state(state: str, boot: int = 1, **values: str) -> Record:
    values = {"step": "driver", "mode": "guest", "reason": "", **values}
    return Record("provision", STATE.format(state=state, boot=f"boot-{boot}", **values))


def seen(*records: Record, mode: str | None = "guest") -> FirstBoot:
    known = FirstBoot(mode)
    for record in records:
        known = known.after(record)
    return known


# The way it should go.


def test_a_guest_in_which_nothing_is_installed() -> None:
    known = seen(boot(1), stages(2, 3), mode=None)
    assert known.activity == Activity("cloud-init: modules-config", stage=True)
    assert known.ending is None
    known = known.after(stages(4))
    assert (known.ending, known.activity) == (Ending.DONE, None)


def test_a_guest_in_which_a_driver_is_installed() -> None:
    known = seen(boot(1), stages(3, 4), state("running"))
    assert str(known.activity) == "[6/12] install the driver"
    # The script's end is not cloud-init's.
    known = known.after(state("done"))
    assert (known.ending, str(known.activity)) == (None, "cloud-init: modules-final")
    assert known.after(stages(4)).ending is Ending.DONE


def test_stages_are_timed_by_the_guest() -> None:
    run = parse_run(stages(2, 3).text)
    assert [stage.seconds for stage in run.stages] == [0.5, 0.5, None, None]


def test_a_clock_that_was_set_back_meanwhile_times_nothing() -> None:
    run = parse_run(stages(3, last={"finished": 1.0}).text)
    assert run.stages[2].seconds is None


# Reboots.


def test_a_reboot_that_was_announced_is_waited_for_even_when_cloud_init_has_ended() -> None:
    known = seen(boot(1), state("reboot", reason="nouveau holds the card"), stages(4))
    assert known.ending is None
    assert str(known.activity) == "the guest reboots: nouveau holds the card"
    known = known.lost()
    assert str(known.activity) == "the guest reboots: nouveau holds the card"
    # Still the same boot: its sshd was quicker than its end.
    known = known.after(boot(1)).after(stages(4)).after(state("reboot"))
    assert known.ending is None


def test_after_a_reboot_only_the_new_boot_counts() -> None:
    known = seen(boot(1), state("reboot"), stages(4)).lost()
    known = known.after(boot(2)).after(state("reboot", boot=1))
    assert (known.ending, known.activity) == (None, None)
    known = known.after(stages(3, 4))
    assert str(known.activity) == "cloud-init: modules-final"
    known = known.after(state("running", boot=2)).after(state("done", boot=2)).after(stages(4))
    assert (known.ending, known.boots) == (Ending.DONE, ("boot-1", "boot-2"))


def test_a_script_that_does_not_go_on_after_the_reboot_has_not_come_to_its_end() -> None:
    known = seen(boot(1), state("reboot")).lost().after(boot(2)).after(stages(4))
    assert known.ending is Ending.NOT_PROVISIONED


def test_a_connection_that_broke_is_no_reboot() -> None:
    known = seen(boot(1), stages(2, 3)).lost()
    assert str(known.activity) == "waiting for the guest to answer again"
    known = known.after(boot(1)).after(stages(4)).after(state("done"))
    assert (known.ending, known.boots) == (Ending.DONE, ("boot-1",))


def test_errors_before_the_reboot_are_not_forgotten() -> None:
    known = seen(boot(1), stages(1, last={"errors": ["a disk is missing"]}), state("reboot")).lost()
    known = known.after(boot(2)).after(stages(4)).after(state("done", boot=2))
    assert known.ending is Ending.FAILED
    assert known.story == "cloud-init ended with errors: a disk is missing"


def test_a_loop_of_reboots_is_noticed() -> None:
    known = FirstBoot("guest")
    for number in range(1 + MOST_REBOOTS):
        known = known.after(boot(number)).after(state("reboot", boot=number)).lost()
        assert known.ending is None
    known = known.after(boot(99))
    assert known.ending is Ending.REBOOT_LOOP
    assert known.story == "it reboots again and again: 4 boots were seen"


# What goes wrong.


def test_a_step_that_fails_is_the_end_at_once() -> None:
    reason = "apt could not install nvidia-headless-470-server"
    known = seen(boot(1), stages(3, 4), state("failed", reason=reason))
    assert known.ending is Ending.PROVISION_FAILED
    assert known.story == f"its provisioning failed: [6/12] install the driver: {reason}"


@pytest.mark.parametrize(
    ("last", "ending", "story"),
    [
        (
            {"errors": ["('scripts_user', RuntimeError('1 failed'))"]},
            Ending.FAILED,
            "cloud-init ended with errors: ('scripts_user', RuntimeError('1 failed'))",
        ),
        (
            {"recoverable_errors": {"WARNING": ["a mirror is slow"]}},
            Ending.DEGRADED,
            "cloud-init ended degraded: WARNING: a mirror is slow",
        ),
        (
            {"errors": ["fatal"], "recoverable_errors": {"ERROR": ["x", "y"]}},
            Ending.FAILED,
            "cloud-init ended with errors: fatal; ERROR: x; ERROR: y",
        ),
    ],
)
def test_any_error_of_cloud_init_is_no_success(
    last: dict[str, object], ending: Ending, story: str
) -> None:
    known = seen(boot(1), stages(4, last=last), mode=None)
    assert (known.ending, known.story) == (ending, story)


def test_words_that_are_deprecated_are_no_error() -> None:
    """As verify has it: such a run is called degraded since cloud-init 23.4."""
    last: dict[str, object] = {"recoverable_errors": {"DEPRECATED": ["chpasswd.list"]}}
    assert seen(boot(1), stages(4, last=last), mode=None).ending is Ending.DONE


def test_an_error_in_an_early_stage_is_told_when_cloud_init_has_ended() -> None:
    assert seen(boot(1), stages(2, 3, {"errors": ["x"]}), mode=None).ending is None


def test_a_script_that_never_ran_is_no_success() -> None:
    assert seen(boot(1), stages(4)).ending is Ending.NOT_PROVISIONED
    assert seen(boot(1), stages(4), state("running")).ending is Ending.NOT_PROVISIONED


def test_what_the_baking_of_the_image_left_is_no_news() -> None:
    baked = state("done", boot=0, mode="bake")
    assert seen(boot(1), baked, stages(4), mode="guest").ending is Ending.NOT_PROVISIONED
    assert seen(boot(1), baked, stages(4), mode="bake").ending is Ending.DONE
    assert seen(boot(1), baked, stages(4), mode=None).ending is Ending.DONE


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("absent", "not installed"),
        ("disabled", "disabled"),
        ("silent", "enabled in its image, and was not run"),
    ],
)
def test_why_cloud_init_did_not_run_is_told_apart(why: str, words: str) -> None:
    known = seen(boot(1), Record("without", why))
    assert known.ending == why
    assert words in known.story


def test_a_first_boot_that_goes_on_has_no_story() -> None:
    assert seen(boot(1)).story == ""


# As Debian 12 with cloud-init 22.4 said it, in an emulator; `---` is where the connection came and
# went.


def replayed(name: str, mode: str) -> list[FirstBoot]:
    """What was known after every record of a recorded first boot."""
    known, history = FirstBoot(mode), []
    for line in text(f"first-boot/recorded/{name}.txt").splitlines():
        if line == "--- connected":
            reader = RecordReader()
        elif line == "--- gone":
            known = known.lost()
        elif (record := reader.feed(line)) is not None:
            known = known.after(record)
        history.append(known)
    return history


def told(history: list[FirstBoot]) -> list[str]:
    """The activities, each once, in their order."""
    return list(dict.fromkeys(str(known.activity) for known in history if known.activity))


def test_a_recorded_first_boot_with_a_reboot_that_nobody_announced() -> None:
    history = replayed("reboot", "bake")
    endings = [known.ending for known in history]
    assert endings.index(Ending.DONE) == len(history) - 2
    assert len(history[-1].boots) == 2
    assert told(history) == [
        "cloud-init: modules-config",
        "cloud-init: modules-final",
        "[2/5] mount the offline bundle and check it",
        "[3/5] set up the sources of packages",
        "[4/5] install the other packages that were asked for",
        "waiting for the guest to answer again",
    ]


def test_a_recorded_first_boot_with_a_reboot_that_the_script_wanted() -> None:
    history = replayed("reboot-announced", "bake")
    assert history[-2].ending is Ending.DONE
    assert Ending.NOT_PROVISIONED not in [known.ending for known in history]
    assert "the guest reboots: a test wants it" in told(history)
    assert history[-1].provision is not None
    assert history[-1].provision.boot == history[-1].boots[1]


def test_a_recorded_first_boot_that_failed() -> None:
    history = replayed("package-missing", "bake")
    assert history[-2].ending is Ending.PROVISION_FAILED
    assert history[-2].story == (
        "its provisioning failed: [4/5] install the other packages that were asked for: "
        "apt could not install no-such-package"
    )


# Records, line by line; a guest is not trusted.


def test_records_are_put_together_from_lines() -> None:
    reader = RecordReader()
    lines = ["a 2", "x 1", "y", "b c 0", "d 1", ""]
    records = [reader.feed(line) for line in lines]
    expected = [None, None, Record("a", "x 1\ny"), Record("b c", ""), None, Record("d", "")]
    assert records == expected


@pytest.mark.parametrize("line", ["", "x", " 1", "x -1", "x 1e9", "x 99999999", "x ²"])
def test_what_is_no_record_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError, match="not the head of a record"):
        RecordReader().feed(line)


def test_a_record_without_measure_is_not_kept() -> None:
    reader = RecordReader()
    reader.feed("cloud-init 9999")
    with pytest.raises(ValueError, match="not a record: cloud-init has more than"):
        for _ in range(9999):
            reader.feed("x" * 1000)


@pytest.mark.parametrize(
    "record",
    [
        Record("cloud-init", "{"),
        Record("cloud-init", "[]"),
        Record("cloud-init", '{"v1": {"init": {"start": "x"}}}'),
        Record("cloud-init", '{"v1": {"init": 3}}'),
        Record("provision", "half a fi"),
        Record("surprise", ""),
    ],
)
def test_what_a_guest_cannot_mean_is_a_value_error(record: Record) -> None:
    with pytest.raises(ValueError, match="not "):
        seen(boot(1)).after(record)


def test_a_state_file_may_have_keys_that_nobody_knows() -> None:
    found = parse_provision("state=running\nnumber=x\nof=3\nweather=fine\ntitle=a=b\n")
    assert (found.state, found.number, found.of, found.title) == ("running", 0, 3, "a=b")


def test_files_that_have_gone_change_nothing() -> None:
    known = seen(boot(1), stages(2, 3), state("running"))
    assert known.after(Record("cloud-init", "")) == known
    assert known.after(Record("provision", "")) == replace(known, provision=None)


def test_what_a_guest_says_cannot_move_the_terminals_cursor() -> None:
    known = seen(boot(1), state("failed", reason="\x1b[2Jgone"))
    assert known.story.isprintable()
