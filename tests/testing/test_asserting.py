"""What a test is told that expects something else to have been deferred."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from jobqueue import App

app = App.null()


@dataclass
class Mail:
    to: str
    at: datetime | None = None


@app.task
async def send(mail: Mail, *, times: int = 1) -> None: ...


@app.task(queue="reports")
async def report() -> None: ...


async def test_what_was_deferred_is_given() -> None:
    """Models and moments are compared as they arrive; arguments that are not named may be anything."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    async with app.testing() as t:
        await send.defer(Mail("ada", at), times=2)
        await send.defer(Mail("bob"))
        assert [{"mail": {"to": "ada", "at": "2026-01-02T00:00:00Z"}, "times": 2}] == [
            job.args for job in t.assert_deferred(send, mail=Mail("ada", at))
        ]
        assert 2 == len(t.assert_deferred(send, times=2))
        assert [] == t.assert_deferred(report, times=0)


async def test_a_failure_shows_what_there_is_instead() -> None:
    """The task's own jobs come first, with what is unusual about them."""
    async with app.testing() as t:
        with pytest.raises(AssertionError, match=r"^send\(\) was not deferred; nothing was deferred$"):
            t.assert_deferred(send)
        await report.options(delay=60).defer()
        await send.defer(Mail("ada"))
        with pytest.raises(AssertionError) as failed:
            t.assert_deferred(send, mail=Mail("bob"))
    expected = """send(mail={'to': 'bob', 'at': None}) was not deferred. Deferred were:
  send(mail={'to': 'ada', 'at': None})  [ready]
  report()  [scheduled, queue reports, delay 60]"""
    assert expected == str(failed.value)


async def test_a_failure_stays_readable() -> None:
    """Twenty lines at most, and none is endless."""
    async with app.testing() as t:
        for number in range(22):
            await send.defer(Mail("x" * 1000 + str(number)))
        with pytest.raises(AssertionError) as failed:
            t.assert_deferred(send, times=3)
    head, *lines, last = str(failed.value).splitlines()
    assert ("send() was deferred 22 times, not 3 times. Deferred were:", "  and 2 more") == (head, last)
    assert 20 == len(lines)
    assert 250 > max(map(len, lines))


async def test_a_rollback_that_nobody_sees() -> None:
    """Without a database a job of a transaction that was rolled back is there: whoever counts on that is told so."""
    async with app.testing() as t:
        await report.defer()
        await send.options(connection=object()).defer(Mail("ada"))
        with pytest.raises(
            AssertionError, match=r"not 0 times(.|\n)*whether the transaction of a `connection=` was roll"
        ):
            t.assert_deferred(send, times=0)
        for task, times in ((report, 0), (send, 2)):
            with pytest.raises(AssertionError) as failed:
                t.assert_deferred(task, times=times)
            assert "transaction" not in str(failed.value)


async def test_an_argument_that_the_task_does_not_have() -> None:
    """It is a mistake of the test, and says which there are."""
    async with app.testing() as t:
        with pytest.raises(TypeError, match=r"send has no argument 'text'; it has: mail, times"):
            t.assert_deferred(send, text="x")
