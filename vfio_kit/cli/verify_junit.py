"""`verify --junit`: a suite for each host, a case for each rung.

It holds to what Jenkins' xunit plugin takes (its junit-10.xsd).
A failure is a guest that is not healthy, an error one that could not be checked.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from vfio_kit.model.health import Check, CheckStatus, Fitness, VerifyReport

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write, "2.2 Characters"."""


def junit_xml(reports: Sequence[VerifyReport], when: datetime) -> str:
    """The document, with its declaration; times in seconds, `when` in UTC."""
    suites = [_suite(report, when) for report in reports]
    root = ET.Element("testsuites", {"name": "vfio-kit verify", **_sums(suites)})
    root.extend(suites)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _sums(suites: Sequence[ET.Element]) -> dict[str, str]:
    return {
        key: str(sum(int(s.get(key, 0)) for s in suites)) for key in ("tests", "failures", "errors")
    }


def _suite(report: VerifyReport, when: datetime) -> ET.Element:
    host = _clean(report.host)
    cases = [_case(check, report) for check in report.checks]
    count = {kind: sum(case.find(kind) is not None for case in cases) for kind in _KINDS}
    suite = ET.Element(
        "testsuite",
        name=host,
        tests=str(len(cases)),
        failures=str(count["failure"]),
        errors=str(count["error"]),
        skipped=str(count["skipped"]),
        time=f"{report.seconds:.3f}",
        timestamp=when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        hostname=host,
    )
    suite.extend(cases)
    return suite


_KINDS = ("failure", "error", "skipped")


def _case(check: Check, report: VerifyReport) -> ET.Element:
    # Readers take what stands before the last dot for a package: an address is none.
    name = f"vfio-kit.{_clean(report.host).replace('.', '_')}"
    case = ET.Element("testcase", name=check.code, classname=name, time="0")
    text = _clean("\n".join(line for line in (check.evidence, check.remedy) if line))
    kind = _kind(check, report)
    if kind is None:
        ET.SubElement(case, "system-out").text = _clean(f"{check.status.value}: {text}")
        return case
    message = _clean(check.evidence)
    if kind == "skipped":
        because = f"because of {check.explained_by}: " if check.explained_by else ""
        ET.SubElement(case, kind, message=f"{check.status.value}: {because}{message}")
        return case
    outcome = ET.SubElement(case, kind, type=_clean(check.cause or check.code), message=message)
    outcome.text = text
    return case


def _kind(check: Check, report: VerifyReport) -> str | None:
    """The element that tells the outcome; None: it passed."""
    if check.status is CheckStatus.FAILED:
        return "error" if report.fitness is Fitness.NOT_CHECKED else "failure"
    if check.status is CheckStatus.NOT_RUN:
        lower = any(other.status is CheckStatus.FAILED for other in report.checks)
        return "skipped" if lower else "failure"
    return "skipped" if check.status is CheckStatus.SKIPPED else None


def _clean(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
