"""app.jobs: jobs are found by id, by each filter exactly, page by page, and counted."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from uuid_utils.compat import uuid4, uuid7

from jobqueue.app import App
from jobqueue.base.errors import InvalidOption, JobNotFound
from jobqueue.base.job import Job, JobState
from jobqueue.base.outcome import Cancel, Fatal
from jobqueue.tasks.context import JobContext
from tests.support.patience import PATIENCE, scaled
from tests.support.postgres.backends import change


class Shop:
    """Jobs in every state, of several queues, tasks and origins; what is true of each is known by its id."""

    def __init__(self, dsn: str) -> None:
        self.app = App(dsn, name="shop")
        self.facts: dict[UUID, dict[str, str]] = {}

        @self.app.task(name="end", max_attempts=1)
        async def end(how: str) -> None:
            errors: dict[str, Exception] = {"dead": Fatal("no"), "cancelled": Cancel("no")}
            if how in errors:
                raise errors[how]

        self.end = end
        self.other = self.app.task(name="other", max_attempts=1)(end.function)

    async def fill(self) -> None:
        """Ended jobs first, then some that wait."""
        await self._defer("completed", "dead", "cancelled")
        await self.app.run_until_idle()
        await self._defer("ready", "scheduled")

    async def _defer(self, *states: str) -> None:
        for state in states:
            for queue in ("default", "mail"):
                for name, task in (("end", self.end), ("other", self.other)):
                    for origin in ("shop", "cron"):
                        said: dict[str, Any] = {"queue": queue, "origin": None if origin == "shop" else origin}
                        late = 3600 if state == "scheduled" else None
                        handle = await task.options(**said, delay=late).defer(state)
                        self.facts[handle.id] = {"state": state, "queue": queue, "task": name, "origin": origin}

    def where(self, **wanted: str) -> list[UUID]:
        """The jobs that match, newest first."""
        found = [id for id, facts in self.facts.items() if wanted.items() <= facts.items()]
        return sorted(found, reverse=True)


@pytest_asyncio.fixture
async def shop(database: str) -> AsyncIterator[Shop]:
    shop = Shop(database)
    await shop.fill()
    yield shop
    await shop.app.close()


def ids(jobs: list[Job]) -> list[UUID]:
    return [job.id for job in jobs]


async def test_each_filter_gives_exactly_the_right_jobs(shop: Shop) -> None:
    """S4-98, S4-04: by state, queue, task and origin, alone and together: these jobs and no others, newest first."""
    filters: list[dict[str, str]] = [{}]
    for name, values in {
        "state": ("completed", "dead", "cancelled", "ready", "scheduled", "running"),
        "queue": ("default", "mail", "none"),
        "task": ("end", "other", "none"),
        "origin": ("shop", "cron", "none"),
    }.items():
        filters += [{name: value} for value in values]
    filters += [
        {"state": "dead", "queue": "mail"},
        {"state": "ready", "origin": "cron", "task": "end"},
        {"state": "cancelled", "queue": "default", "task": "other", "origin": "shop"},
    ]

    for wanted in filters:
        found = await shop.app.jobs.list(**wanted)  # type: ignore[arg-type]  # all of them are text
        assert shop.where(**wanted) == ids(found), wanted
        assert all(isinstance(job.state, JobState) for job in found)


async def test_several_states_at_once(shop: Shop) -> None:
    """S4-98: a list of states, as members or as text, gives the jobs in any of them."""
    for states in ([JobState.DEAD, JobState.READY], ("dead", "ready")):
        found = ids(await shop.app.jobs.list(state=states))
        assert sorted(shop.where(state="dead") + shop.where(state="ready"), reverse=True) == found
    assert shop.where(state="dead") == ids(await shop.app.jobs.list(state=JobState.DEAD))


async def test_pages_come_without_gap_or_overlap(shop: Shop) -> None:
    """S4-98: after= the last id of a page gives the next one, over unfinished and finished jobs alike."""
    seen: list[UUID] = []
    while page := await shop.app.jobs.list(after=seen[-1] if seen else None, limit=7):
        assert len(page) <= 7
        seen += ids(page)

    assert shop.where() == seen
    mail: list[UUID] = []
    while page := await shop.app.jobs.list(queue="mail", after=mail[-1] if mail else None, limit=3):
        mail += ids(page)
    assert shop.where(queue="mail") == mail


async def test_jobs_that_come_meanwhile_do_not_shift_the_pages(shop: Shop) -> None:
    """S4-98: a job deferred between two pages does not push one of the first page onto the second."""
    first = ids(await shop.app.jobs.list(limit=10))
    await shop.end.defer("new")
    second = ids(await shop.app.jobs.list(limit=100, after=first[-1]))

    assert shop.where() == first + second


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"limit": 0}, "limit"), ({"limit": 1_001}, "limit"), ({"state": "done"}, "state"), ({"state": ["x"]}, "state")],
)
async def test_a_filter_that_makes_no_sense_is_refused(wrong: dict[str, Any], named: str, database: str) -> None:
    """A limit out of range or an unknown state is refused by name."""
    app = App(database)
    with pytest.raises(InvalidOption, match=named):
        await app.jobs.list(**wrong)
    await app.close()


async def test_one_job_by_its_id(shop: Shop) -> None:
    """S4-98: a job is found by its id in every state; an id that nobody has is JobNotFound."""
    for id, facts in shop.facts.items():
        job = await shop.app.jobs.get(id)
        assert (id, facts["state"], facts["queue"]) == (job.id, str(job.state), job.queue)
    for unknown in (uuid7(), uuid4()):
        with pytest.raises(JobNotFound, match=str(unknown)):
            await shop.app.jobs.get(unknown)


async def test_what_a_job_says_of_itself(shop: Shop, database: str) -> None:
    """S4-71: started, running, ended, succeeded, its worker alive: as the row was when it was read."""
    expected = {
        "completed": (True, False, True, True),
        "dead": (True, False, True, False),
        "cancelled": (True, False, True, False),
        "ready": (False, False, False, False),
        "scheduled": (False, False, False, False),
    }
    for job in await shop.app.jobs.list(payload=True):
        assert expected[job.state] == (job.started, job.running, job.ended, job.succeeded)
        assert not job.worker_alive
        assert job == await shop.app.jobs.get(job.id)


async def test_a_jobs_worker_is_alive_while_its_lease_holds(database: str) -> None:
    """S4-71: and no longer, by the database's clock."""
    app = App(database)

    @app.task
    async def look(ctx: JobContext) -> list[bool]:
        alive = []
        for lease in ("1 minute", "-1 minute"):
            await change(database, f"update jobqueue.job set lease_until = now() + interval '{lease}'")
            job = await app.jobs.get(ctx.job.id)
            alive.append(job.running and job.started and job.worker_alive)
        return [ctx.job.worker_alive, *alive]

    async with app, app.worker():
        assert [True, True, False] == await (await look.defer()).result(timeout=PATIENCE)


async def test_an_ended_job_with_any_id_is_found(database: str) -> None:
    """S4-02: an ended job under an id of the caller's is found, whatever time the id seems to tell, hours ahead too."""
    app = App(database)

    @app.task
    async def note() -> int:
        return 1

    hours_ahead = int((datetime.now(UTC) + timedelta(hours=12)).timestamp() * 1000)
    for id in (uuid4(), uuid7_of(1), uuid7_of(hours_ahead)):
        handle = await note.options(id=id).defer()
        await app.run_until_idle()
        assert (id, JobState.COMPLETED) == ((await app.jobs.get(id)).id, await handle.status())
        assert 1 == await handle.result(timeout=PATIENCE)
    await app.close()


def uuid7_of(milliseconds: int) -> UUID:
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | 5)


async def test_counts_add_up(shop: Shop, database: str) -> None:
    """S4-98: counts by queue and state are those of the jobs there are, and the oldest ready job's wait is told."""
    hour_ago = "update jobqueue.job set due_at = now() - interval '1 hour' where queue = 'mail' and state = 'ready'"
    await change(database, hour_ago)
    counts = await shop.app.jobs.counts()

    expected = {JobState(state): 4 for state in ("completed", "dead", "cancelled", "ready", "scheduled")}
    assert {"default": expected, "mail": expected} == counts.by_queue
    assert (8, 0) == (counts.by_state[JobState.DEAD], counts.by_state[JobState.RUNNING])
    assert 0 <= counts.oldest_ready["default"] < scaled(60)
    assert 3_600 <= counts.oldest_ready["mail"] < 3_660
