"""What the log says of a loop's troubles: an outage and its end, or a refusal, which is no outage."""

import logging

import asyncpg
import pytest

from jobqueue.base.log import get_logger
from jobqueue.store.connection.faults import Fault, classify
from jobqueue.store.connection.outage import Outage

REFUSALS = [
    (asyncpg.NumericValueOutOfRangeError("refused"), Fault.BAD_DATA),
    (asyncpg.UndefinedColumnError("no such column"), Fault.SCHEMA),
    (asyncpg.InsufficientPrivilegeError("not yours"), Fault.SETUP),
]
OUTAGES = [
    (ConnectionResetError(), Fault.UNKNOWN),
    (ConnectionRefusedError(), Fault.AWAY),
    (asyncpg.DeadlockDetectedError("deadlock"), Fault.CONFLICT),
    (asyncpg.ReadOnlySQLTransactionError("a standby"), Fault.READ_ONLY),
]


def named(fault: object) -> str:
    return fault.name if isinstance(fault, Fault) else ""


def new_outage(caplog: pytest.LogCaptureFixture) -> Outage:
    caplog.set_level(logging.INFO, "jobqueue")
    return Outage("test", get_logger("jobqueue.tests"))


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and event of each line."""
    events = ("loop.failed", "database.unreachable", "database.back")
    found = [(record, record.getMessage()) for record in caplog.records]
    return [(record.levelname, event) for record, text in found for event in events if event in text]


@pytest.mark.parametrize(("error", "fault"), REFUSALS, ids=named)
def test_a_refusal_is_no_outage(error: Exception, fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    """What the database refuses is an error of that loop; nobody reads that the database went away, or is back."""
    outage = new_outage(caplog)
    assert fault is classify(error)
    for _ in range(3):
        outage.met(error)
    outage.over()
    assert [("ERROR", "loop.failed")] == said(caplog)
    assert "doing='test'" in caplog.text


@pytest.mark.parametrize(("error", "fault"), OUTAGES, ids=named)
def test_an_outage_and_its_end_are_told_once(error: Exception, fault: Fault, caplog: pytest.LogCaptureFixture) -> None:
    """However often it is met within a second, an outage has one line, and one when it is over."""
    outage = new_outage(caplog)
    assert fault is classify(error)
    for _ in range(3):
        outage.met(error)
    for _ in range(3):
        outage.over()
    assert [("WARNING", "database.unreachable"), ("INFO", "database.back")] == said(caplog)


def test_an_outage_that_ends_in_a_refusal_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """Who was told of the outage is told of its end, whatever else went wrong in between; a success alone says none."""
    outage = new_outage(caplog)
    outage.over()
    outage.met(ConnectionRefusedError())
    outage.met(asyncpg.InsufficientPrivilegeError("not yours"))
    outage.over()
    outage.over()
    assert [("WARNING", "database.unreachable"), ("INFO", "database.back")] == said(caplog)
