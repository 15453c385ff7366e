"""The watch over all tests hears what it is there to hear, finds payloads in it, and leaves task code's words alone."""

import logging
from pathlib import Path
from typing import Any

import pytest

from jobqueue.base.errors import InvalidPayload
from jobqueue.base.job import AttemptError
from jobqueue.base.log import get_logger
from jobqueue.cli.terminal.logs import console_line, json_line
from jobqueue.store import outcomes
from jobqueue.tasks.payload.signature import Signature
from jobqueue.tasks.run import attempt as running
from tests.support.secrets import WATCH, Watch, hear_others

SECRET = "the card is 4711"
PAYLOAD = f'{{"card": "{SECRET}", "amount": 3}}'
DEAD: dict[str, Any] = {"job_id": "1", "task": "pay", "queue": "mail", "attempt": 1, "seconds": 0.1, "error": None}


def watch_with(**heard: Any) -> Watch:
    """A watch of its own, that has seen the payload and heard this."""
    watch = Watch()
    watch.payload(PAYLOAD)
    for name, value in heard.items():
        setattr(watch, name, value)
    return watch


def failed(message: str, traceback: str = "") -> AttemptError:
    return AttemptError("OSError", message, traceback=traceback, attempt=1)


@pytest.mark.parametrize(
    "told", [SECRET, PAYLOAD, PAYLOAD.replace(" ", ""), "{'card': 'the card is 4711', 'amount': 3}"]
)
def test_a_payload_is_found_wherever_it_is_told(told: str) -> None:
    """S3-20: in a field of an event, in a line of another logger, in our own error's text, in a stored error."""
    line = ("jobqueue.worker.ending.finishing", "error", "job.dead", {**DEAD, "reason": told})
    locals_of_a_frame = f'  File "shop.py", line 3, in pay\n    pay(card)\n    card = {told!r}\n'
    for watch in (
        watch_with(lines=[line]),
        watch_with(foreign=[f"Task exception: {told}"]),
        watch_with(texts=[f"pay: {told}"]),
        watch_with(stored=[failed(told)]),
        watch_with(stored=[failed("no", locals_of_a_frame)]),
    ):
        assert 1 <= len(watch.faults(None))


def test_the_tasks_own_words_are_its_own() -> None:
    """What a handler raises, and the source of its lines, may have what it was given; names of things as well."""
    source = f'  File "shop.py", line 3, in pay\n    pay("{SECRET}")\n'
    named = ("jobqueue.worker.ending.finishing", "error", "job.dead", {**DEAD, "reason": "fatal", "queue": SECRET})

    assert [] == watch_with(stored=[failed(f"sorry: {SECRET}")], own_words=[f"sorry: {SECRET}"]).faults(None)
    assert [] == watch_with(stored=[failed("no", source)]).faults(None)
    assert [] == watch_with(lines=[named]).faults(None)


@pytest.mark.parametrize("render", [console_line(terminal=False, colours=False), json_line])
def test_lines_of_worker_processes_are_read(render: Any, tmp_path: Path, database: str) -> None:
    """S3-20: a payload in an event that a process has written is found, in both formats; user's lines are theirs."""
    facts = {"timestamp": "2026-01-01T00:00:00.000000Z", "level": "error", **DEAD}
    file = tmp_path / "worker.err"
    file.write_text(
        f"waiting for {SECRET}\n" + render(None, "error", {**facts, "event": "shop.failed", "reason": SECRET}) + "\n"
    )
    watch = watch_with(processes=[file])
    assert [] == watch.faults(database)
    file.write_text(file.read_text() + render(None, "error", {**facts, "event": "job.dead", "reason": PAYLOAD}) + "\n")
    assert 1 <= len(watch.faults(database))


def test_an_event_that_is_not_in_the_table_is_found() -> None:
    """S3-20: unknown, at another level, with a field more or less."""
    facts = {**DEAD, "reason": "fatal"}
    for event, level, said in (
        ("job.vanished", "error", facts),
        ("job.dead", "info", facts),
        ("job.dead", "error", {**facts, "args": "{}"}),
        ("job.dead", "error", DEAD),
    ):
        assert 1 == len(watch_with(lines=[("jobqueue.worker.ending.finishing", level, event, said)]).faults(None))
    assert [] == watch_with(lines=[("jobqueue.worker.ending.finishing", "error", "job.dead", facts)]).faults(None)


def test_it_hears_others_after_logging_was_configured_anew() -> None:
    """As Litestar does, for one: all handlers of the root are replaced."""
    root = logging.getLogger()
    before = root.handlers[:]
    try:
        root.handlers.clear()
        hear_others()
        hear_others()
        logging.getLogger("asyncio").error("a foreign line")
    finally:
        root.handlers[:] = before
    assert ["a foreign line"] == WATCH.foreign


def test_it_hears_everything() -> None:
    """What the library encodes, logs below the level that is set, raises and stores comes to its ears."""

    async def pay(card: str) -> None: ...

    Signature.of(pay).encode_args((SECRET,), {}, 1_000)
    get_logger("jobqueue.tests").debug("job.completed", job_id="1", task="pay", queue="mail", attempt=1, seconds=1.0)
    logging.getLogger("asyncio").error("a foreign line")
    running.__dict__["describe"](OSError("its own words"), 1)
    outcomes.error_json(failed("stored"))
    InvalidPayload("pay", "card", "missing", "is missing")

    assert {f'{{"card":"{SECRET}"}}'} == WATCH.payloads
    assert ["job.completed"] == [event for _, _, event, _ in WATCH.lines]
    assert ["a foreign line"] == WATCH.foreign
    assert "its own words" in WATCH.own_words
    assert ["stored"] == [error.message for error in WATCH.stored]
    assert ["pay: card: is missing"] == WATCH.texts
