"""`@app.cron`: what the code says reaches the database, and what it says no more is fired no more."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from jobqueue import App, InvalidOption, InvalidSignature, JobContext, Router
from jobqueue.cron import declaring
from jobqueue.tasks.registry import Declared
from tests.support.jobs.planned import app_on, fire, firer_on, hourly, jobs_of, move_back, put
from tests.support.jobs.store import connect
from tests.support.jobs.working import asked, new_app
from tests.support.waiting import wait_until

HOUR = timedelta(hours=1)


def code(cron: str = "", **more: str) -> Callable[[], Sequence[Declared]]:
    """What a version of the code declares: a task `digest` at these times, or once an hour."""
    app = App.null()

    async def digest() -> None: ...

    app.cron(cron or hourly(), **more)(digest)  # type: ignore[arg-type]
    return lambda: app.registry.schedules


async def seen_ago(dsn: str, interval: str) -> None:
    """As if no worker had declared anything for so long."""
    async with connect(dsn) as connection:
        await connection.execute(f"update jobqueue.schedule set seen_at = now() - interval '{interval}'")


async def test_a_worker_runs_what_its_code_plans(database: str) -> None:
    """Above a function and above a task, with the context and on a router: each has its jobs."""
    app, router, ran = new_app(database), Router(prefix="r."), set[str]()

    @app.cron("* * * * * *")
    async def plain() -> None:
        ran.add("plain")

    @app.cron("* * * * * *", name="often")
    @app.task(queue="mail", name="tidy")
    def other(ctx: JobContext, deep: bool = False) -> None:
        ran.add(f"{ctx.job.queue} {ctx.job.origin}")

    @router.cron("* * * * * *")
    async def routed() -> None:
        ran.add("routed")

    app.include(router)
    async with app, app.worker():
        await wait_until(lambda: {"plain", "mail schedule:often", "routed"} <= ran, "all have run")
        found = {each.name: (each.task, each.source) for each in await app.schedules.list()}
    assert {"plain": ("plain", "code"), "often": ("tidy", "code"), "r.routed": ("r.routed", "code")} == found


def test_arguments_have_no_schedule() -> None:
    """A task that needs an argument is refused where it is decorated, in words that help."""
    app = App.null()
    with pytest.raises(InvalidSignature, match=r"'user'.*app\.schedules\.put"):

        @app.cron("@daily")  # type: ignore[arg-type]
        async def remind(user: int) -> None: ...

    assert 0 == len(app.registry)


def test_two_schedules_need_two_names() -> None:
    """One task at two times is fine; which is which must be said."""
    app = App.null()

    @app.cron("0 7 * * *")
    @app.task
    async def digest() -> None: ...

    with pytest.raises(InvalidOption, match="name"):
        app.cron("0 19 * * *")(digest)
    app.cron("0 19 * * *", name="evening")(digest)
    assert ["digest", "evening"] == [each.name for each in app.registry.schedules]


async def test_the_last_version_of_the_code_wins(database: str) -> None:
    """While two versions run, both fire what the row says: what the last one that started has declared."""
    old, new = code("0 * * * *"), code("30 * * * *")
    async with app_on(database) as app:
        for version in (old, new, old):
            await fire(database, version)
            assert version()[0].timing.cron == (await app.schedules.get("digest")).timing.cron


async def test_a_restart_changes_nothing(database: str) -> None:
    """Declared again in the same words it keeps its next time, and its pause: so an outage is one."""
    same = code(missed="all")
    async with app_on(database) as app:
        await fire(database, same)
        first = await move_back(database, 3 * HOUR, "digest")
        await seen_ago(database, "3 hours")
        await fire(database, same)
        assert [first + n * HOUR for n in range(4)] == [job.planned_at for job in await jobs_of(app, "digest")]
        await app.schedules.pause("digest")
        await fire(database, same)
        assert "paused" == (await app.schedules.get("digest")).state


async def test_what_left_the_code_is_not_fired(database: str) -> None:
    """Five minutes after the last worker that declares it; a week later it is removed."""
    async with app_on(database) as app:
        await fire(database, code())
        await move_back(database, HOUR, "digest")
        await seen_ago(database, "6 minutes")
        await fire(database)
        assert ([], "undeclared") == (await jobs_of(app, "digest"), (await app.schedules.get("digest")).state)
        await seen_ago(database, "8 days")
        await fire(database)
        assert [] == list(await app.schedules.list())


async def test_a_worker_says_again_and_again_that_its_code_has_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what it declares does not grow old; and comes back if somebody has deleted the row."""
    monkeypatch.setattr(declaring, "_EVERY", 0.0)
    async with app_on(database) as app, firer_on(database, code()) as firer:
        await firer.look()
        await seen_ago(database, "4 minutes")
        await firer.look()
        assert await asked(database, "select seen_at > now() - interval '1 minute' from jobqueue.schedule")
        with pytest.raises(InvalidOption, match="declared in the code"):
            await app.schedules.delete("digest")
        await seen_ago(database, "6 minutes")
        await app.schedules.delete("digest")
        await firer.look()
        assert ["digest"] == [each.name for each in await app.schedules.list()]


async def test_what_cannot_be_declared_now_holds_up_no_other(database: str) -> None:
    """While an open transaction has the row of one in the code, the others fire; afterwards it is declared."""
    new = code("30 * * * *")
    async with app_on(database) as app, connect(database) as other:
        await fire(database, code("0 * * * *"))
        await put(app, "note", hourly(), missed="once")
        await move_back(database, HOUR)
        async with other.transaction():
            await app.schedules.pause("digest", connection=other)
            await fire(database, new)
        assert (1, "0 * * * *") == (len(await jobs_of(app)), (await app.schedules.get("digest")).timing.cron)
        await fire(database, new)
        assert ("30 * * * *", "paused") == ((found := await app.schedules.get("digest")).timing.cron, found.state)


async def test_a_name_has_one_owner(database: str) -> None:
    """What was stored is not changed by code of the same name, nor the other way round."""
    async with app_on(database) as app:
        await put(app, "digest", "@daily")
        await fire(database, code())
        assert ("stored", "@daily") == ((found := await app.schedules.get("digest")).source, found.timing.cron)
        await app.schedules.delete("digest")
        await fire(database, code())
        with pytest.raises(InvalidOption, match="in the code"):
            await put(app, "digest", "@daily")
