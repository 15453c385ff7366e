"""`app.events`: what is told, in which order, from where on, and to whom."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from jobqueue.app import App
from jobqueue.base.errors import InvalidOption
from tests.support.jobs.told import cancelled, ids, jobs, taken
from tests.support.jobs.working import new_app
from tests.support.postgres.backends import change


@pytest_asyncio.fixture
async def app(database: str) -> AsyncIterator[App]:
    app = new_app(database, name="shop")
    async with app:
        yield app


async def test_each_fate_is_told_once_and_in_order(database: str) -> None:
    """S2-10: a retry, each end, a revival and a deletion are told, with what tells them apart, and nothing else is."""
    app = new_app(database, name="shop")

    @app.task(max_attempts=2, retry=lambda job, error: 0.0)
    async def fails() -> None:
        raise ValueError("secret")

    @app.task
    async def works() -> int:
        return 1

    async with app, app.events() as events:
        done = await works.options(origin="till").defer()
        await app.run_until_idle()
        failed = await fails.defer()
        await app.run_until_idle()
        await app.jobs.retry(failed.id)
        await app.jobs.cancel(failed.id)
        await app.jobs.delete(done.id)
        told = await taken(events, 6)

    assert [
        (done.id, "job.completed", 1, None, False),
        (failed.id, "job.retried", 1, "ValueError", True),
        (failed.id, "job.dead", 2, "ValueError", False),
        (failed.id, "job.revived", 2, None, False),
        (failed.id, "job.cancelled", 0, None, False),
        (done.id, "job.deleted", 1, None, False),
    ] == [(event.job_id, event.type, event.attempt, event.error, event.will_retry) for event in told]
    assert {("works", "default", "till"), ("fails", "default", "shop")} == {
        (event.task, event.queue, event.origin) for event in told
    }
    assert "secret" not in str(told)


async def test_one_goes_on_behind_any_event(app: App) -> None:
    """S2-35: behind each id, also one in the middle of a row, comes exactly the rest; behind "0" comes all."""
    made = [id for count in (3, 1, 4) for id in await cancelled(app, count)]
    async with app.events("0") as events:
        told = await taken(events, 8)

    assert sorted(made) == sorted(jobs(told))
    assert [1, 3, 4] == sorted(len([id for id in ids(told) if id.startswith(f"{seq}.")]) for seq in seqs(told))
    (last,) = await cancelled(app)
    for index, event in enumerate(told):
        async with app.events(event.id) as events:
            assert [*jobs(told[index + 1 :]), last] == jobs(await taken(events, 8 - index))
    async with app.events(seqs(told)[0]) as events:
        assert jobs(told[3:]) == jobs(await taken(events, 5)), "behind a number comes what is behind its whole row"


def seqs(events: list[Any]) -> list[str]:
    return list(dict.fromkeys(event.id.partition(".")[0] for event in events))


async def test_a_stream_says_where_it_stands(app: App) -> None:
    """Its position leads past what was left out, so that one who waits for a rare event need not read all again."""
    async with app.events(task="rare") as events:
        beginning = events.position
        (rare,) = await cancelled(app, task="rare")
        (event,) = await taken(events, 1)
        assert (rare, event.id) == (event.job_id, events.position)
    assert beginning is not None
    async with app.events(beginning) as events:
        assert [rare] == jobs(await taken(events, 1))


async def test_filters(app: App) -> None:
    """S2-12: type, task, queue, origin and job choose, together too."""
    (mail,) = await cancelled(app, task="mail", origin="till")
    (print_,) = await cancelled(app, task="print", queue="slow")
    await app.jobs.delete(mail)
    batch = await cancelled(app, 3, task="print")
    choices: list[tuple[dict[str, Any], list[UUID]]] = [
        ({"types": "job.deleted"}, [mail]),
        ({"types": ["job.deleted", "job.cancelled"], "task": "mail"}, [mail, mail]),
        ({"task": "mail", "types": "job.cancelled"}, [mail]),
        ({"queue": "slow"}, [print_]),
        ({"job": batch[1]}, [batch[1]]),
        ({"job": str(mail)}, [mail, mail]),
        ({"task": "print", "queue": "default"}, sorted(batch)),
        ({"origin": "till"}, [mail, mail]),
    ]
    for choice, expected in choices:
        async with app.events("0", **choice) as events:
            assert expected == sorted(jobs(await taken(events, len(expected)))), choice
    (end,) = await cancelled(app, task="end")
    async with app.events("0", origin="nobody") as none, app.events("0", task="end") as one:
        assert [end] == jobs(await taken(one, 1))
        assert [] == await none.rows(0.0)


@pytest.mark.parametrize("after", ["", "x", "1.", ".1", "1.2.3", "-1", "1e3", "٣", "9" * 19, 7])
def test_a_place_that_is_none_is_refused(after: Any) -> None:
    """At once, not when the stream is read, and the sentence says what a place looks like."""
    with pytest.raises(InvalidOption, match=r'after: must be the id of an event, such as "48213\.7", or "0"'):
        App.null().events(after)


def test_a_choice_that_is_none_is_refused() -> None:
    """A type that there is not is named, with the one that was meant; other filters say what they must be."""
    app: Any = App.null()
    with pytest.raises(InvalidOption, match=r"no event 'dead'; did you mean job\.dead\?"):
        app.events(types="dead")
    with pytest.raises(InvalidOption, match=r"no event 'job\.complete'; did you mean job\.completed\?"):
        app.events(types=["job.dead", "job.complete"])
    for name, value in {"job": "7", "bundle": "x", "task": "", "queue": 7}.items():
        with pytest.raises(InvalidOption, match=name):
            app.events(**{name: value})


async def test_an_odd_row_harms_nobody(app: App, database: str) -> None:
    """What somebody has written by hand, with fewer attempts than jobs, or with nothing, ends no stream."""
    async with app.events() as events:
        await change(
            database,
            "insert into jobqueue.event (type) values ('job.dead');"
            "insert into jobqueue.event (type, jobs, attempts) values"
            " ('job.dead', array[gen_random_uuid(), null, gen_random_uuid()], array[1])",
        )
        (made,) = await cancelled(app)
        *odd, last = await taken(events, 3)
        assert [1, 0] == [event.attempt for event in odd]
        assert made == last.job_id


async def test_async_with_fixes_the_beginning(app: App) -> None:
    """What happens inside the block is told, however late it is asked for; without it, what comes after the asking."""
    before = await cancelled(app)
    async with app.events() as events:
        inside = await cancelled(app, 2)
        assert sorted(inside) == sorted(jobs(await taken(events, 2)))
    assert before[0] not in inside


async def test_an_ended_stream_gives_no_more(app: App) -> None:
    """Behind the block iterating ends, as with a closed generator; it does not wait for ever."""
    async with app.events("0") as events:
        await cancelled(app, 2)
        await taken(events, 1)
    assert [] == [event async for event in events]
    await events.aclose()
