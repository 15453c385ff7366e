"""A job that waits for others does not wait for ever, whatever happens to those who should see to it."""

from uuid import UUID

import pytest

from jobqueue.base.outcome import Dead
from jobqueue.store.flows.dependencies import START, Healed, heal_dependencies
from jobqueue.worker.ending import folding
from tests.support.jobs.graphs import see_to_facts, states, stored_graph
from tests.support.jobs.store import claim_one, connect, failure, finish, open_session
from tests.support.jobs.working import new_app
from tests.support.waiting import wait_until

DEAD = Dead("attempts", failure())
LINE = {"first": [], "second": ["first"]}


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker inspects all the time."""
    monkeypatch.setattr(folding, "_INSPECTION", 0.05)


async def test_what_a_dead_worker_has_left_is_done_by_the_next(database: str) -> None:
    """Killed between the finish and the look at what comes after, a worker leaves facts."""
    async with open_session(database) as session, connect(database) as connection:
        await stored_graph(session, LINE)
        await finish(session, await claim_one(session))
        async with new_app(database) as app, app.worker(queues=["other"]):

            async def begins() -> bool:
                return "ready" == (await states(connection))["second"]

            await wait_until(begins, "the second may begin")


BY_HAND = {
    "the job before": ("delete from jobqueue.job where task = 'first'", "dependency"),
    "the fact of its end": ("delete from jobqueue.fact", "ready"),
    "its node": ("delete from jobqueue.node; delete from jobqueue.fact", "ready"),
    "what it waits for": ("delete from jobqueue.dependency; delete from jobqueue.fact", "ready"),
}


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("what", sorted(BY_HAND))
async def test_rows_deleted_past_us_leave_nobody_waiting(
    database: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it is: the job that waits begins, or is cancelled if the other one is gone; and that is said."""
    delete, expected = BY_HAND[what]
    async with open_session(database) as session, connect(database) as connection:
        await stored_graph(session, LINE)
        if what != "the job before":
            await finish(session, await claim_one(session))
        await connection.execute(delete)
        async with new_app(database) as app, app.worker(queues=["other"]):

            async def is_told() -> bool:
                return expected == (await states(connection))["second"]

            await wait_until(is_told, "it does not wait any more")
    assert "dependencies.healed" in caplog.text


async def test_nothing_is_healed_that_is_well(database: str) -> None:
    """A job that waits for one that is to run, runs, has ended with its fact there, or is dead: each is left alone."""
    async with open_session(database) as session, connect(database) as connection:
        await stored_graph(session, {**LINE, "third": ["second"]})
        well = Healed([], 0, START)
        assert well == await heal_dependencies(session, START)
        row = await claim_one(session)
        assert well == await heal_dependencies(session, START)
        await finish(session, row)
        assert well == await heal_dependencies(session, START)
        await see_to_facts(session)
        await finish(session, await claim_one(session), outcome=DEAD)
        await see_to_facts(session)
        assert well == await heal_dependencies(session, START)
        assert "dependency" == (await states(connection))["third"]


async def test_all_pages_are_looked_at(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many jobs wait, one that is deleted past us is found, a page at a time."""
    monkeypatch.setattr("jobqueue.store.flows.dependencies._CHUNK", 2)
    async with open_session(database) as session, connect(database) as connection:
        _, ids = await stored_graph(session, {"first": [], **{f"then {n}": ["first"] for n in range(5)}, "gone": []})
        await connection.execute(
            "update jobqueue.dependency set on_id = $1 where job_id = $2", ids["gone"], ids["then 4"]
        )
        await connection.execute("delete from jobqueue.job where id = $1", ids["gone"])
        place, found = START, list[UUID]()
        for _ in range(10):
            page = await heal_dependencies(session, place)
            place, found = page.next, found + page.lost
            if place == START:
                break
        assert ([ids["gone"]], START) == (found, place)


async def test_what_cannot_be_cancelled_holds_up_only_itself(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """What the database refuses is said, and tried again; what others wait for goes on."""
    async with open_session(database) as session, connect(database) as connection:
        await stored_graph(session, {"a": [], "b": [], "c": [], "fine": ["a"], "broken": ["b"], "too": ["c"]})
        await connection.execute("alter table jobqueue.job_archive add constraint odd check (task <> 'broken')")
        for _ in range(3):
            await finish(session, await claim_one(session), outcome=DEAD)
        async with new_app(database) as app, app.worker(queues=["other"]):

            async def others_are_told() -> bool:
                found = await states(connection)
                return "dependency" == found["fine"] == found["too"]

            await wait_until(others_are_told, "the others are cancelled")
            await wait_until(lambda: "dependency.refused" in caplog.text, "it is said")
        assert "blocked" == (await states(connection))["broken"]
