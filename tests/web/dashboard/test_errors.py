"""Errors in groups: the list, one of them, the card on the overview; and what somebody who sees some queues is told."""

from collections.abc import AsyncIterator

import pytest

from jobqueue import App
from jobqueue.base.errors import DatabaseError
from jobqueue.web import Access
from tests.support.jobs.working import end_of, new_app
from tests.web.dashboard.visiting import READER, visiting

MESSAGE = "the issuer answered 4711"


class CardDeclined(Exception):
    """An error of its own."""


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    """Three charges that failed alike, two of them in `billing`, one in `bank`; and a letter that was lost."""
    app = new_app(database)

    @app.task(queue="billing", max_attempts=1)
    async def charge() -> None:
        raise CardDeclined(MESSAGE)

    @app.task(queue="mail", max_attempts=1)
    async def letter() -> None:
        raise OSError("lost")

    async with app:
        handles = [await charge.defer(), await charge.defer(), await charge.options(queue="bank").defer()]
        handles.append(await letter.defer())
        async with app.worker(["billing", "bank", "mail"]):
            for handle in handles:
                await end_of(app, handle)
        yield app


async def test_dead_jobs_are_shown_in_groups_within_a_window_that_is_named(app: App) -> None:
    """The largest first; of a queue or a task; each leads to its page, a job of it, its task."""
    async with visiting(app) as client:
        page = (await client.get("/errors")).text
        assert "2 groups" in page
        assert "all 4 dead jobs, since" in page
        assert page.index("CardDeclined") < page.index("OSError")
        assert "75\u202f%" in page
        assert "test_errors.py" in page
        assert "letter" not in (await client.get("/errors?queue=billing")).text
        assert "CardDeclined" not in (await client.get("/errors?task=letter")).text
        assert "None of the latest dead jobs" in (await client.get("/errors?queue=nothing")).text
        (mine,) = (await client.get("/api/v1/errors?queue=billing")).json()["groups"]
        assert (2, 1.0, ["billing"], 2) == (mine["count"], mine["share"], mine["queues"], sum(mine["trend"]))


async def test_one_group_says_how_its_sample_failed_and_what_can_be_done(app: App) -> None:
    """Message and traceback for those who may see payloads; the buttons lead to a preview of these jobs alone."""
    (group, *_) = await app.jobs.errors()
    path = f"/errors/{group.fingerprint}"
    async with visiting(app) as client:
        page = (await client.get(path)).text
        assert MESSAGE in page
        assert "Retry 3…" in page
        assert 3 == len(await app.jobs.list(fingerprint=group.fingerprint))
        which = {"state": "dead", "fingerprint": group.fingerprint, "task": "charge", "error": group.error_class}
        assert "Retry 3 jobs" in (await client.get("/preview/jobs/retry", params=which)).text
        gone = await client.get(f"/errors/{'0' * 16}")
        assert 404 == gone.status_code
        assert "fingerprint=0000" in gone.text
    async with visiting(app, READER) as client:
        page = (await client.get(path)).text
        assert MESSAGE not in page
        assert "test_errors.py" in page
        assert "/preview/" not in page


async def test_of_foreign_queues_nothing_is_counted(app: App) -> None:
    """A group with jobs of several queues counts those that may be seen; its buttons name the queue."""
    async with visiting(app, Access("eve", operate=True, queues=["billing"])) as client:
        seen = (await client.get("/api/v1/errors")).json()
        (group,) = seen["groups"]
        assert (2, 2, ["billing"]) == (seen["jobs"], group["count"], group["queues"])
        page = (await client.get(f"/errors/{group['fingerprint']}")).text
        assert 'name="queue" value="billing"' in page
        assert "bank" not in page + (await client.get("/")).text
    async with visiting(app, Access("eve", queues=["billing", "bank"])) as client:
        (group,) = (await client.get("/api/v1/errors")).json()["groups"]
        assert (3, ["bank", "billing"], 3) == (group["count"], group["queues"], sum(group["trend"]))


async def test_the_overview_has_the_largest_and_does_without_them(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not count them in time costs the card, not the page; and is not asked again at once."""
    asked = 0

    async def away(*given: object, **said: object) -> object:
        nonlocal asked
        asked += 1
        raise DatabaseError("no answer in time")

    async with visiting(app) as client:
        page = (await client.get("/")).text
        assert "Errors, latest dead" in page
        assert "CardDeclined" in page
        assert "CardDeclined" in (await client.get("/?part=errors")).text
    monkeypatch.setattr("jobqueue.web.dashboard.reading.errors.error_groups", away)
    async with visiting(app) as client:
        for _ in range(2):
            answer = await client.get("/")
            assert 200 == answer.status_code
            assert "Errors, latest dead" not in answer.text
        assert 503 == (await client.get("/errors")).status_code
    assert 1 == asked


async def test_nothing_dead_says_what_will_stand_here(database: str) -> None:
    """A first visit."""
    async with new_app(database) as app, visiting(app) as client:
        page = (await client.get("/errors")).text
    assert "No dead job is there" in page
    assert "no dead jobs" in page
