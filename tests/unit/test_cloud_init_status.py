"""cloud-init's own account of how it went: degraded is not success."""

import json

import pytest

from vfio_kit.analysis.guest.cloud_init import CloudInitStatus, parse_status

DONE = {
    "boot_status_code": "enabled-by-generator",
    "datasource": "nocloud",
    "detail": "DataSourceNoCloud [seed=/dev/vdb]",
    "errors": [],
    "extended_status": "done",
    "last_update": "Tue, 11 Mar 2025 09:41:07 +0000",
    "recoverable_errors": {},
    "status": "done",
}


def status(**changes: object) -> CloudInitStatus:
    return parse_status(json.dumps({**DONE, **changes}))


def test_done_without_errors_is_success() -> None:
    found = status()
    assert found == CloudInitStatus("done", ())
    assert found.ok


@pytest.mark.parametrize("dots", ["", ".", "......\n", "\n....\n"])
def test_the_dots_of_waiting_come_before_the_document(dots: str) -> None:
    assert parse_status(dots + json.dumps(DONE)).ok


def test_version_22_has_fewer_keys() -> None:
    assert parse_status('{"status": "done", "errors": []}').ok
    assert parse_status('{"status": "done"}').ok


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"errors": ["('scripts_user', RuntimeError('1 failed'))"]}, 1),
        ({"errors": ["one", "two"], "status": "error"}, 2),
        ({"recoverable_errors": {"WARNING": ["a mirror is slow"], "ERROR": ["x", "y"]}}, 3),
        ({"extended_status": "degraded done", "recoverable_errors": {"WARNING": ["x"]}}, 1),
    ],
)
def test_any_error_is_no_success(changes: dict[str, object], errors: int) -> None:
    found = status(**changes)
    assert not found.ok
    assert len(found.errors) == errors


def test_what_is_deprecated_is_done_all_the_same() -> None:
    found = status(extended_status="degraded done", recoverable_errors={"DEPRECATED": ["a", "b"]})
    assert found == CloudInitStatus("done", (), ("a", "b"))
    assert found.ok
    assert status(recoverable_errors={"DEPRECATED": None}).ok


def test_an_error_says_how_bad_it_was() -> None:
    found = status(errors=["fatal"], recoverable_errors={"WARNING": ["slow"]})
    assert found.errors == ("fatal", "WARNING: slow")


@pytest.mark.parametrize("word", ["running", "error", "disabled", "not started", "degraded"])
def test_any_other_status_is_no_success(word: str) -> None:
    assert not status(status=word).ok


def test_null_in_the_place_of_lists_is_no_error() -> None:
    assert status(errors=None, recoverable_errors=None).ok


@pytest.mark.parametrize(
    "text", ["", "....", "status: done", "{", '{"status": 1}', "{}", '{"errors": []}', "[1]", "{]"]
)
def test_what_is_no_status_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not cloud-init's status: "):
        parse_status(text)
