"""What a site takes out of payloads is nowhere, however it is done."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from jobqueue.base.job import Job, JobState, JsonValue
from jobqueue.web.dashboard.showing.redacting import redacted, redacted_text

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Job(UUID(int=7), "task", "queue", JobState.READY, 0, 0, 20, 0, 0, NOW, NOW)
CARD = '{"card": {"number": "4711", "big": 123456789012345678901234567890}, "list": [1, {"number": "4711"}]}'


def by_path(job: Job, path: str, value: JsonValue) -> JsonValue:
    return "***" if path.endswith(".number") else value


def in_place(job: Job, path: str, value: Any) -> Any:
    """As people do it who think that they may change what they are given."""
    if isinstance(value, dict):
        value.pop("number", None)
    return value


def broken(job: Job, path: str, value: JsonValue) -> JsonValue:
    raise ValueError("4711")


def odd(job: Job, path: str, value: JsonValue) -> Any:
    return object()


@pytest.mark.parametrize("redact", [by_path, in_place, broken, odd])
def test_what_is_hidden_is_not_there(redact: Any) -> None:
    """By its path, by changing what was given; and if the function fails nothing is shown at all."""
    assert "4711" not in redacted(JOB, redact, "args", CARD)


def test_what_is_not_hidden_stays_exact() -> None:
    """The path names places in lists too, and other numbers keep their digits."""
    seen: list[str] = []

    def noting(job: Job, path: str, value: JsonValue) -> JsonValue:
        seen.append(path)
        return by_path(job, path, value)

    text = redacted(JOB, noting, "args", CARD)
    expected = {"card": {"number": "***", "big": 123456789012345678901234567890}, "list": [1, {"number": "***"}]}
    assert expected == json.loads(text)
    assert {"args", "args.card", "args.card.number", "args.list.1.number"} <= set(seen)


def test_both_of_a_key_that_is_there_twice_are_asked_about() -> None:
    """The one that a dict would forget may be the secret."""
    assert "4711" not in redacted(JOB, by_path, "args", '{"number": "4711", "number": "1"}')


@pytest.mark.parametrize("text", ["[" * 5_000 + '"4711"' + "]" * 5_000, '[4711, "cut'])
def test_what_cannot_be_looked_into_is_not_shown(text: str) -> None:
    """What `redact` has not seen, nobody sees."""
    assert "4711" not in redacted(JOB, by_path, "args", text)
    assert text == redacted(JOB, None, "args", text)


def test_texts_are_asked_about_as_well() -> None:
    """The message of an error, for one."""
    assert "***" == redacted_text(JOB, lambda job, path, value: "***", "error.message", "4711")
    assert "4711" not in redacted_text(JOB, broken, "error.message", "4711")
