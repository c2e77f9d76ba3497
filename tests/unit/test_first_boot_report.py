"""What is said of a first boot: one line a step; test_console has the line that runs."""

import pytest

from tests.unit.test_first_boot import boot, stages, state
from vfio_kit.analysis.guest.culprits import Diagnosis
from vfio_kit.analysis.guest.first_boot import FirstBoot, Record
from vfio_kit.cli.first_boot_report import FirstBootReport, print_culprit


def told(report: FirstBootReport, *records: Record) -> FirstBoot:
    known = FirstBoot("guest")
    for record in records:
        known = known.after(record)
        report.show(known)
    return known


def whats(report: FirstBootReport) -> list[str]:
    return [step.what for step in report.steps]


def test_a_step_is_told_when_it_is_done_and_a_stage_by_its_own_clock(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = FirstBootReport()
    told(report, boot(1), stages(2, 3), stages(3, 4), state("running"), state("done"), stages(4))
    assert whats(report) == [
        "cloud-init: init-local",
        "cloud-init: init",
        "cloud-init: modules-config",
        "[6/12] install the driver",
        "cloud-init: modules-final",
    ]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "   0.5 s  cloud-init: init-local"
    assert len(lines) == 5
    first = report.times_json()["steps"][0]
    assert (first["what"], first["seconds"]) == ("cloud-init: init-local", 0.5)


def test_a_step_that_failed_is_not_told_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    report = FirstBootReport()
    told(report, boot(1), state("running"), state("failed", reason="no"))
    report.end()
    assert whats(report) == ["failed: [6/12] install the driver"]
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_step_that_an_interrupt_broke_off_is_told_as_nothing() -> None:
    report = FirstBootReport()
    told(report, boot(1), state("running"))
    assert report.activity == "[6/12] install the driver"
    report.end()
    assert (whats(report), report.activity) == ([], "")


def test_a_reboot_is_a_step_and_the_stages_come_again() -> None:
    report = FirstBootReport()
    known = told(report, boot(1), stages(4), state("reboot", reason="another kernel"))
    report.show(known.lost())
    known = known.lost().after(boot(2))
    report.show(known)
    report.show(known.after(stages(1, 2)))
    assert whats(report) == [
        *(f"cloud-init: {name}" for name in ("init-local", "init")),
        *(f"cloud-init: {name}" for name in ("modules-config", "modules-final")),
        "the guest reboots: another kernel",
        "cloud-init: init-local",
    ]


def test_the_lines_of_a_culprit_stand_apart(capsys: pytest.CaptureFixture[str]) -> None:
    print_culprit(Diagnosis(log="/var/log/apt/term.log", lines=("E: one", "two")))
    assert capsys.readouterr().err == (
        "          /var/log/apt/term.log in the guest:\n            | E: one\n            | two\n"
    )
    print_culprit(Diagnosis())
    assert capsys.readouterr().err == ""
