"""Where the result of `verify` goes: text, JSON, or a document on stdout; documents into files."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click

from vfio_kit.cli import console
from vfio_kit.cli.common import print_json
from vfio_kit.cli.report import StepTime, longest
from vfio_kit.cli.verify_targets import Guest
from vfio_kit.errors import HostError, UsageError
from vfio_kit.model.health import Fitness, VerifyReport

_STDOUT = "-"
_Writer = Callable[[Sequence[VerifyReport], datetime], str]


class Outputs:
    """What was asked for; told of each round: begin, each report as it comes, end."""

    def __init__(
        self, as_json: bool, junit: str | None, prometheus: str | None, *, watching: bool
    ) -> None:
        """Raises UsageError where two would go to stdout, or a file can be no file."""
        self._json, self._watching = as_json, watching
        self._documents = [
            (where, writer)
            for where, writer in ((junit, _junit), (prometheus, _prometheus))
            if where is not None
        ]
        on_stdout = [where for where, _ in self._documents if where == _STDOUT]
        if len(on_stdout) + as_json > 1:
            raise click.UsageError("--json, --junit - and --prometheus - all write to stdout: one")
        if on_stdout and watching:
            raise click.UsageError("--watch writes documents into files, not to stdout")
        self._text = not as_json and not on_stdout
        files = [_require_file(where) for where, _ in self._documents if where != _STDOUT]
        if len(set(files)) < len(files):
            raise UsageError("--junit and --prometheus name the same file", "give each its own")
        self._before: dict[str, VerifyReport] = {}
        self._several, self._width = False, 0
        self.nobody_reads = False
        """Whoever read stdout went away: head, grep -q. The verdict and the files are as ever."""

    def begin(self, guests: Sequence[Guest]) -> None:
        self._several = len(guests) > 1
        self._width = max(len(guest.label) for guest in guests)

    def came(self, report: VerifyReport) -> None:
        """People are told at once."""
        from vfio_kit.cli.verify_report import print_changes, print_line

        if not self._text:
            return
        before = self._before.get(report.host)
        with self._reader():
            if before is not None:
                print_changes(before, report, datetime.now().astimezone())
            elif self._several:
                print_line(report, self._width)

    def end(self, reports: Sequence[VerifyReport], when: datetime, seconds: float) -> None:
        """The reports in the order asked for; `seconds` is the whole round's."""
        with self._reader():
            self._tell(reports, when, seconds)
        self._write_files(reports, when)
        self._before = {report.host: report for report in reports}

    @contextmanager
    def _reader(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.nobody_reads = True

    def _write_files(self, reports: Sequence[VerifyReport], when: datetime) -> None:
        """Every one that can be; raises the HostError of the first that cannot."""
        failed: list[HostError] = []
        for where, writer in self._documents:
            if where != _STDOUT:
                try:
                    _write(where, writer(reports, when))
                except HostError as error:
                    failed.append(error)
        if failed:
            raise failed[0]

    def _tell(self, reports: Sequence[VerifyReport], when: datetime, seconds: float) -> None:
        """On stdout: before the files, for what was found is told where one cannot be written."""
        for where, writer in self._documents:
            if where == _STDOUT:
                click.echo(writer(reports, when), nl=False)
        if self._json:
            self._print_json(reports, when, seconds)
        elif self._text and not self._before:
            _print_round(reports, seconds)
            if self._watching:
                console.step("from here on what changes; Ctrl-C ends it")

    def _print_json(self, reports: Sequence[VerifyReport], when: datetime, seconds: float) -> None:
        from vfio_kit.cli.verify_json import verify_document

        document = verify_document(reports, when, seconds)
        if self._watching:  # NDJSON: a document a line
            click.echo(json.dumps(document))
            sys.stdout.flush()
        else:
            print_json(document)


def _print_round(reports: Sequence[VerifyReport], seconds: float) -> None:
    from vfio_kit.cli.verify_report import print_details, print_ladder, print_sum

    if len(reports) == 1:
        print_ladder(reports[0])
        return
    for report in reports:
        if report.fitness is not Fitness.FIT:
            print_details(report)
    if any(report.fitness is not Fitness.FIT for report in reports):
        click.echo()
    print_sum(reports, seconds)
    if words := longest([StepTime(r.host, 0, r.seconds) for r in reports], seconds):
        console.step(f"longest: {words}")


def _junit(reports: Sequence[VerifyReport], when: datetime) -> str:
    from vfio_kit.cli.verify_junit import junit_xml

    return junit_xml(reports, when)


def _prometheus(reports: Sequence[VerifyReport], when: datetime) -> str:
    from vfio_kit.cli.verify_prometheus import prometheus_text

    return prometheus_text(reports, when)


def _require_file(where: str) -> Path:
    """The file. Raises UsageError for what no file can be put in the place of: a device, a folder;
    HostError where the folder that it goes into is not there. Before anybody is asked."""
    from vfio_kit.apply.files import target_of

    try:
        path = target_of(Path(where))
        if path.exists() and not path.is_file():
            raise UsageError(f"{where} is no file", "give a file's name, or - for stdout")
        if not path.parent.is_dir():
            raise HostError(
                f"cannot write {path}: there is no folder {path.parent}", f"mkdir -p {path.parent}"
            )
    except RuntimeError:
        raise UsageError(f"{where} is a link that leads to itself") from None
    except OSError as error:
        raise UsageError(f"{where} cannot be written: {error.strerror}") from None
    return path


def _write(where: str, text: str) -> None:
    """The whole new file or the old one, readable by all: a collector may read at any time."""
    from vfio_kit.apply.files import target_of, write_file

    write_file(target_of(Path(where)), text.encode("utf-8", "replace"), 0o644)
