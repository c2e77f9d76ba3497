"""How `verify` tells people: what an operator reads at three in the morning."""

from dataclasses import replace

import pytest

from tests.unit.verified import WHEN, broken, silent, sound
from vfio_kit.cli.verify_report import (
    print_changes,
    print_details,
    print_ladder,
    print_line,
    print_sum,
)
from vfio_kit.model.health import Check, CheckStatus, VerifyReport

WARNED = Check("link", CheckStatus.WARN, "0000:01:00.0: x8 of x16", "seat it anew", "narrow-link")


def with_check(report: VerifyReport, check: Check) -> VerifyReport:
    checks = tuple(check if other.code == check.code else other for other in report.checks)
    return replace(report, checks=checks)


def test_one_guest_is_told_rung_by_rung_and_its_verdict_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_ladder(sound())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok       ssh           the host key is the known one"
    (smi,) = [line for line in lines if " nvidia-smi " in line]
    assert smi.startswith("ok       nvidia-smi    driver 470.256.02, CUDA 11.4: Quadro M4000")
    assert "skipped  burn          nobody asked for it: --burn SECONDS" in lines
    assert any(
        line.startswith("GPU Quadro M4000 at 0000:01:00.0: driver 470.256.02") for line in lines
    )
    assert lines[-1] == "m4000: healthy, 2.1 s"
    assert max(map(len, lines)) <= 80


def test_what_is_wrong_stands_with_its_cause_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_ladder(broken())
    text = capsys.readouterr().out
    assert "failed   nvidia-smi    driver-not-loaded: " in text
    assert "\n                       → in the guest: sudo modprobe nvidia" in text
    assert text.endswith("\nbroken: not healthy: nvidia-smi (driver-not-loaded), 3.0 s\n")


def test_what_follows_from_a_failure_has_no_remedy_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_ladder(broken())
    text = capsys.readouterr().out
    assert "not-run  gpu-state     because of nvidia-smi\n" in text
    assert "failed   device-query  because of nvidia-smi: " in text
    assert text.count("→") == 1


def test_a_warning_does_not_hide_behind_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    report = with_check(sound(), WARNED)
    print_ladder(report)
    text = capsys.readouterr().out
    assert "warn     link          narrow-link: 0000:01:00.0: x8 of x16\n" in text
    assert "→ seat it anew" in text
    assert text.endswith("m4000: healthy, with a warning: link, 2.1 s\n")
    print_line(report, 8)
    line = capsys.readouterr().out
    assert line == "m4000     healthy: Quadro M4000, with a warning: link, 2.1 s\n"


def test_a_guest_that_was_not_reached_is_not_called_unhealthy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_ladder(silent())
    text = capsys.readouterr().out
    assert text.endswith("silent: not checked: root@silent: cannot connect: no route, 15.0 s\n")
    assert "not healthy" not in text


def test_several_guests_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    for report in (sound("k80", "k80"), broken(), silent()):
        print_line(report, 6)
    assert capsys.readouterr().out.splitlines() == [
        "k80     healthy: 2 x Tesla K80, 2.1 s",
        "broken  not healthy: nvidia-smi (driver-not-loaded), 3.0 s",
        "silent  not checked: root@silent: cannot connect: no route, 15.0 s",
    ]


def test_the_details_are_what_stands_in_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    print_details(broken())
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["", "broken:"]
    assert lines[2].startswith("failed   nvidia-smi ")
    assert not [line for line in lines if line.startswith(("ok ", "skipped "))]
    print_details(silent())
    text = capsys.readouterr().out
    assert "failed   ssh " in text
    assert "not-run" not in text


def test_the_sum(capsys: pytest.CaptureFixture[str]) -> None:
    print_sum([sound(), broken(), silent(), sound()], 15.06)
    assert capsys.readouterr().out == (
        "4 guests: 2 healthy, 1 not healthy, 1 not checked; 15.1 s\n"
    )


def test_a_change_says_when_where_and_what(capsys: pytest.CaptureFixture[str]) -> None:
    print_changes(sound("gpu"), broken("gpu"), WHEN)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "02:59:58  gpu  nvidia-smi: ok → failed"
    assert lines[1].startswith("          driver-not-loaded: ")
    assert lines[-1] == ("02:59:58  gpu  healthy → not healthy: nvidia-smi (driver-not-loaded)")
    print_changes(broken("gpu"), sound("gpu"), WHEN)
    assert capsys.readouterr().out.splitlines()[-1] == "02:59:58  gpu  not healthy → healthy"


def test_another_evidence_alone_is_no_change(capsys: pytest.CaptureFixture[str]) -> None:
    hotter = with_check(sound(), Check("gpu-state", CheckStatus.OK, "40 C"))
    print_changes(sound(), hotter, WHEN)
    assert capsys.readouterr().out == ""


def test_another_cause_is_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    print_changes(
        with_check(sound(), WARNED), with_check(sound(), replace(WARNED, cause="slow-link")), WHEN
    )
    assert "link: warn → warn\n          slow-link: " in capsys.readouterr().out


def test_no_rung_failed_and_there_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    print_ladder(VerifyReport("vm", (), (Check("ssh", CheckStatus.OK, "known"),)))
    assert capsys.readouterr().out.endswith("vm: not healthy: no GPU, 0.0 s\n")
