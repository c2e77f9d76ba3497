"""`verify --json`: the document and its schema."""

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import vfio_kit
from tests.unit.verified import WHEN, broken, silent, sound
from vfio_kit.cli.verify_json import verify_document
from vfio_kit.model.health import CheckStatus, GpuHealth, LinkHealth, VerifyReport

SCHEMA = json.loads(
    (Path(vfio_kit.__file__).parent / "schemas/verify-2.schema.json").read_text("utf-8")
)


def document(*reports: VerifyReport) -> Any:
    """As a consumer reads it, valid, and all of it described."""
    found = json.loads(json.dumps(verify_document(reports, WHEN, 2.25)))
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    assert undocumented(found, SCHEMA) == []
    return found


def undocumented(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """Keys of the document that stand in no `properties` of its schema."""
    if "$ref" in schema:
        return undocumented(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    for choice in schema.get("oneOf", []):
        if (value is None) == (choice.get("type") == "null"):
            return undocumented(value, choice, where)
    if isinstance(value, dict):
        known = schema["properties"]
        return [f"{where}.{key}" for key in value if key not in known] + [
            found
            for key in value
            if key in known
            for found in undocumented(value[key], known[key], f"{where}.{key}")
        ]
    if isinstance(value, list):
        return [found for each in value for found in undocumented(each, schema["items"], where)]
    return []


def test_a_healthy_guest() -> None:
    found = document(sound())
    assert (found["schema"], found["time"]) == ("vfio-kit/verify/2", "2026-03-01T02:59:58Z")
    assert (found["healthy"], found["seconds"]) == (True, 2.2)
    (host,) = found["hosts"]
    assert (host["host"], host["healthy"], host["seconds"]) == ("m4000", True, 2.1)
    (gpu,) = host["gpus"]
    assert (gpu["name"], gpu["driver"], gpu["compute_capability"], gpu["device_query"]) == (
        "Quadro M4000",
        "470.256.02",
        "5.2",
        "PASS",
    )
    assert host["checks"][0] == {
        "code": "ssh",
        "status": "ok",
        "cause": None,
        "explained_by": None,
        "evidence": "the host key is the known one",
        "remedy": "",
    }


def test_a_rung_that_another_explains() -> None:
    checks = {check["code"]: check for check in document(broken())["hosts"][0]["checks"]}
    assert checks["nvidia-smi"]["status"] == "failed"
    assert checks["nvidia-smi"]["cause"] == "driver-not-loaded"
    assert checks["nvidia-smi"]["remedy"]
    assert checks["device-query"]["explained_by"] == "nvidia-smi"


@pytest.mark.parametrize(
    ("reports", "healthy"),
    [
        ([sound(), sound("k80", "k80")], True),
        ([sound(), broken()], False),
        ([sound(), silent()], None),
        ([silent(), broken()], False),
        ([silent()], None),
    ],
)
def test_the_whole_is_healthy_if_all_are(
    reports: Sequence[VerifyReport], healthy: bool | None
) -> None:
    found = document(*reports)
    assert found["healthy"] is healthy
    assert [host["host"] for host in found["hosts"]] == [report.host for report in reports]


def test_a_guest_that_was_not_reached_is_neither_healthy_nor_not() -> None:
    (host,) = document(silent())["hosts"]
    assert (host["healthy"], host["gpus"]) == (None, [])
    assert {check["status"] for check in host["checks"]} == {"failed", "not-run"}


def test_all_that_is_known_of_a_gpu_is_there() -> None:
    (gpu,) = document(sound())["hosts"][0]["gpus"]
    assert list(gpu) == [field.name for field in fields(GpuHealth)]
    assert list(SCHEMA["$defs"]["gpu"]["properties"]) == SCHEMA["$defs"]["gpu"]["required"]
    assert set(SCHEMA["$defs"]["gpu"]["required"]) == {field.name for field in fields(GpuHealth)}
    assert SCHEMA["$defs"]["link"]["required"] == [field.name for field in fields(LinkHealth)]


def test_every_status_is_in_the_schema() -> None:
    statuses = SCHEMA["$defs"]["check"]["properties"]["status"]["enum"]
    assert statuses == [status.value for status in CheckStatus]


def test_the_schema_is_a_schema_and_describes_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for name, part in {"": SCHEMA, **SCHEMA["$defs"]}.items():
        for key, below in part["properties"].items():
            assert below.get("description"), f"{name}.{key}"
