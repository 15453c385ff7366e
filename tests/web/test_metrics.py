"""What Prometheus scrapes: it adds up, has few labels, stays there without the database, and tells nothing private."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette

from jobqueue import Fatal, JobContext, Limit, Retry
from jobqueue.app import App
from jobqueue.store.schema.statements import statement
from jobqueue.web import depths
from jobqueue.web.health import health_app
from jobqueue.worker.keeping.tally import OUTCOMES, UNKNOWN
from tests.support.jobs.blocked import block
from tests.support.jobs.store import WORKER, connect
from tests.support.jobs.working import all_ended, asked, counted, new_app
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import becomes
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until
from tests.web.pages import Page, get

SECRET = "marker-4f1b8-secret"


async def scrape(pages: Starlette) -> Page:
    page = await get(pages, "/metrics")
    assert 200 == page.status
    return page


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is asked at each scrape."""
    monkeypatch.setattr(depths, "KEPT", 0.0)


async def test_a_scrape_adds_up(database: str, fresh: None) -> None:
    """S3-22: claimed = processed + in flight in every scrape, while jobs run; one duration for each run."""
    app = new_app(database)
    let_go = asyncio.Event()

    @app.task(max_attempts=2)
    async def work(n: int) -> int:
        if n == 0:
            await let_go.wait()
        if n % 3 == 1:
            raise Retry(0)
        if n % 3 == 2:
            raise Fatal("no")
        return n

    async with app, app.worker(concurrency=10) as worker:
        pages = health_app(worker)
        await app.defer_many([work.job(n) for n in range(300)])
        while await counted(database) > 1:
            page = await scrape(pages)
            processed = sum(page.values("tasks_processed_total").values())
            held = sum(page.values("tasks_in_flight").values())
            assert sum(page.values("tasks_claimed_total").values()) == processed + held
        await wait_until(lambda: worker.supervisor.tally.tasks()["work"].processed == 399, "all but one are counted")
        page = await scrape(pages)
        let_go.set()
        await all_ended(database)
    found = {outcome: number for (outcome, _), number in page.values("tasks_processed_total").items()}
    assert found == dict.fromkeys(OUTCOMES, 0.0) | {"completed": 99, "dead": 200, "retried": 100}
    assert {("work",): 400} == page.values("tasks_claimed_total")
    assert {("work",): 1} == page.values("tasks_in_flight")
    assert {("work",): 100} == page.values("retries_total")
    assert {("work",): 399} == page.values("task_duration_seconds_count")
    assert 399 == page.values("task_duration_seconds_bucket")[("+Inf", "work")]
    assert (0, 0, 0) == tuple(page.value(name) for name in ("rescues_total", "writes_refused_total", "handlers_stuck"))


async def test_a_scrape_explains_itself(database: str) -> None:
    """Each metric has a sentence of help and a type, in Prometheus' text and in OpenMetrics if that is asked for."""
    app = new_app(database)

    @app.task
    async def work() -> None: ...

    async with app, app.worker() as worker:
        await (await work.defer()).result(timeout=PATIENCE)
        pages = health_app(worker)
        plain = (await scrape(pages)).text
        modern = (await get(pages, "/metrics", accept="application/openmetrics-text; version=1.0.0")).text
    names = {line.split()[2] for line in plain.splitlines() if line.startswith("# TYPE")}
    helped = {line.split()[2]: line.split(maxsplit=3)[3] for line in plain.splitlines() if line.startswith("# HELP")}
    assert names == set(helped)
    assert len(names) >= 12
    assert [] == [name for name, text in helped.items() if not (text.endswith(".") and 20 < len(text) < 200)]
    assert all(name.startswith("jobqueue_") for name in names)
    assert modern.endswith("# EOF\n")


async def test_queues_are_measured_where_they_are(database: str, fresh: None) -> None:
    """S3-22: depth by queue and state, age of the oldest due job, from the database; empty again, zeros remain."""
    app = new_app(database)

    @app.task(queue="mail")
    async def work() -> None: ...

    async with app, app.worker(queues=["other", "mail"]) as worker:
        pages = health_app(worker)
        await app.queues.pause("mail")
        first, _, waits = await app.defer_many([work.job(), work.options(delay=3600).job(), work.job()])
        async with connect(database) as connection:
            await block(connection, waits.id, [first.id])
        await asked(
            database, "update jobqueue.job set due_at = now() - interval '100 s' where state = 'ready' returning 1"
        )
        page = await scrape(pages)
        depth = {("mail", "scheduled"): 1, ("mail", "blocked"): 1, ("mail", "ready"): 1, ("mail", "running"): 0}
        none = {("other", state): 0 for state in ("scheduled", "blocked", "ready", "running")}
        assert depth | none == page.values("queue_depth")
        assert 1 == page.value("jobs_blocked")
        oldest = page.values("queue_oldest_due_age_seconds")
        assert (0, True) == (oldest["other",], 100 <= oldest["mail",] < 130)
        await asked(database, "delete from jobqueue.job returning 1")
        assert dict.fromkeys([*depth, *none], 0) == (await scrape(pages)).values("queue_depth")


@pytest.mark.parametrize("serves_all", [True, False])
async def test_queues_from_elsewhere_share_one_label(database: str, fresh: None, serves_all: bool) -> None:
    """S3-23: queues that somebody made up by SQL are one series, also if they are paused; the queues of registered
    tasks and of the command line have their own, however late they get a job."""
    app = new_app(database)

    @app.task(queue="zzz")
    async def work() -> None: ...

    async with app, app.worker(queues=None if serves_all else ["mail"], concurrency=1) as worker:
        pages = health_app(worker)
        async with connect(database) as connection:
            await connection.execute(
                "insert into jobqueue.job (id, queue, task, args, state, due_at) select gen_random_uuid(),"
                " 'a' || n, 'none', '{}', 'scheduled', now() + interval '1 day' from generate_series(1, 1000) n"
            )
        await app.queues.pause("a1")
        first = (await scrape(pages)).values("queue_depth")
        await work.options(delay=3600).defer()
        second = (await scrape(pages)).values("queue_depth")
    own = {"zzz"} if serves_all else {"zzz", "mail"}
    assert own | {UNKNOWN} == {queue for queue, _ in first} == {queue for queue, _ in second}
    assert (1_000, 0) == (first[UNKNOWN, "scheduled"], first["zzz", "scheduled"])
    assert (1_000, 1) == (second[UNKNOWN, "scheduled"], second["zzz", "scheduled"])


async def test_a_task_that_comes_later_brings_its_queue(database: str, fresh: None) -> None:
    """S3-22: registered queues are those of the moment; empty ones show zeros, so that an alert sees them."""
    app = new_app(database)
    async with app, app.worker() as worker:
        pages = health_app(worker)
        assert {} == (await scrape(pages)).values("queue_depth")

        @app.task(queue="late")
        async def work() -> None: ...

        page = await scrape(pages)
        none = {("late", state): 0 for state in ("scheduled", "blocked", "ready", "running")}
        assert none == page.values("queue_depth")
        assert {("late",): 0} == page.values("queue_oldest_due_age_seconds")


async def test_the_lag_of_the_log_is_who_writes_it(database: str, fresh: None) -> None:
    """A transaction that has written the log and stays open holds up its readers: the page says for how long."""
    app = App(database)
    async with app.worker(concurrency=1) as work, connect(database) as connection:
        pages = health_app(work)
        page = await scrape(pages)
        assert 0 == page.value("events_lag_seconds")
        await connection.execute("begin")
        await connection.execute(statement("log_started"), [], [], WORKER)  # it has the log's lock, and nothing to say
        page = await scrape(pages)
        await connection.execute("rollback")

        assert 0 < page.value("events_lag_seconds")


async def test_the_backlog_of_webhooks_is_counted(database: str, fresh: None) -> None:
    """Deliveries that wait are a number of their own, whichever queues the worker serves."""
    app = App(database)
    async with app.worker(["other"], concurrency=1) as work:
        pages = health_app(work)
        assert 0 == (await scrape(pages)).value("webhook_backlog")
        await asked(database, "select jobqueue.defer('jobqueue.webhook', '{}', 'webhooks', delay => 60)")

        assert 1 == (await scrape(pages)).value("webhook_backlog")


async def test_limits_are_counted_by_name(database: str, fresh: None) -> None:
    """Who was let through and who waits, by limit and never by key; and since when a gate has wanted a look."""
    app, let_go = new_app(database), asyncio.Event()

    @app.task(limit=[Limit(1, key="tenant"), Limit(5, name="smtp")], fair="tenant")
    async def hold(tenant: str) -> None:
        await let_go.wait()

    async with app, app.worker() as work:
        pages = health_app(work)
        handles = await hold.defer_many([SECRET, SECRET, "b"])

        async def they_hold() -> bool:
            return (await scrape(pages)).values("limit_waiting") == {("hold",): 1.0, ("smtp",): 0.0}

        await wait_until(they_hold, "one of each runs, another waits", PATIENCE)
        page = await scrape(pages)
        assert {("hold",): 2.0, ("smtp",): 2.0} == page.values("limit_admitted_total")
        assert page.value("gate_note_age_seconds") >= 0
        assert SECRET not in page.text
        let_go.set()
        for handle in handles:
            await handle.result(timeout=PATIENCE)
        assert {("hold",): 3.0, ("smtp",): 3.0} == (await scrape(pages)).values("limit_admitted_total")


async def test_bundles_and_what_is_to_be_added_up_are_counted(database: str, fresh: None) -> None:
    """Bundles that have not ended are a number, and so is what nobody has added up, up to a limit that costs little."""
    app = App(database)
    async with app.worker(["other"], concurrency=1) as work:
        pages = health_app(work)
        page = await scrape(pages)
        assert (0, 0) == (page.value("bundles_unfinished"), page.value("facts_waiting"))
        async with connect(database) as connection, connect(database) as holder, holder.transaction():
            await connection.execute(
                "insert into jobqueue.bundle (name, open, finished_at) values ('a', false, now());"
                "insert into jobqueue.bundle (name, open) select 'many', true from generate_series(1, 12000)"
            )
            held = await holder.fetchval("select id from jobqueue.bundle where name = 'many' limit 1 for update")
            await connection.execute("insert into jobqueue.fact (target, added) values ($1, 1), ($1, 1)", held)
            page = await scrape(pages)

    assert (10_000, 2) == (page.value("bundles_unfinished"), page.value("facts_waiting"))


@asynccontextmanager
async def overdue(dsn: str, **seconds: float) -> AsyncIterator[None]:
    """Planned times of these schedules have passed so long ago, and inside the block nobody can fire them."""
    async with connect(dsn) as writer, connect(dsn, application_name="holder") as holder:
        async with writer.transaction():
            for name, ago in seconds.items():
                await writer.execute(
                    "update jobqueue.schedule set next_at = now() - make_interval(secs => $2) where name = $1",
                    name,
                    ago,
                )
            held = asyncio.create_task(holder.execute("begin; lock table jobqueue.schedule in exclusive mode"))
            await becomes(dsn, 1, "application_name = 'holder' and wait_event_type = 'Lock'")
        await held
        yield
        await holder.execute("rollback")


async def test_schedules_are_counted_and_their_lag_is_told(database: str, fresh: None) -> None:
    """What was fired and left out is counted; the lag is that of the most overdue one that is to be fired, else 0."""
    app = new_app(database)
    names = "schedule_fired_total", "schedule_missed_total", "schedule_lag_seconds"

    @app.task
    async def work() -> None: ...

    async with app, app.worker() as worker:
        pages = health_app(worker)
        for name in ("late", "later", "paused", "undeclared"):
            await app.schedules.put(name, work.job(), "0 0 1 1 *")
        await app.schedules.pause("paused")
        gone = "source = 'code', seen_at = now() - interval '1 h' where name = $1 returning 1"
        await asked(database, f"update jobqueue.schedule set {gone}", "undeclared")
        page = await scrape(pages)
        assert (0, 0, 0) == tuple(page.value(name) for name in names)
        async with overdue(database, late=10, later=300, undeclared=3_000):
            lag = (await scrape(pages)).value("schedule_lag_seconds")
        await wait_until(lambda: worker.snapshot().missed, "the one that is later than a minute is left out")
        page = await scrape(pages)

    assert 300 <= lag < 3_000
    assert (1, 1, 0) == tuple(page.value(name) for name in names)


async def test_phases_that_were_recorded_are_counted(database: str) -> None:
    """Phases, sleeps and waits that ended in this worker are one number; what is found again is not counted anew."""
    app = new_app(database)

    async def step() -> int:
        return 1

    @app.task
    async def work(ctx: JobContext) -> None:
        for n in range(3):
            await ctx.phase(f"step {n}", step)
        await ctx.sleep("breath", 0.2)
        await ctx.wait_for("go", bool)

    async with app, app.worker() as worker:
        pages = health_app(worker)
        job = await work.defer()
        await job.signal("go", True)
        await job.result(timeout=PATIENCE)
        page = await scrape(pages)

    assert 5 == page.value("phases_recorded_total")
    processed = page.values("tasks_processed_total")
    assert (1, 1) == (processed["completed", "work"], processed["suspended", "work"])


async def test_the_database_is_asked_seldom(database: str) -> None:
    """However often somebody scrapes, the queues are counted once in a few seconds."""
    app = new_app(database)
    async with app, app.worker() as worker:
        pages = health_app(worker)
        first = (await scrape(pages)).values("queue_depth")
        await asked(database, "select jobqueue.defer('none', '{}', 'mail', delay => 3600)")
        assert first == (await scrape(pages)).values("queue_depth")


async def test_without_the_database_the_rest_is_there(
    database: str, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3-22: a silent network costs a scrape its queues and a moment, no more; they are back with the database."""
    monkeypatch.setattr(depths, "LIMIT", 0.3)
    async with proxied(database) as proxy:
        app = App(proxy.dsn)

        @app.task(queue="mail")
        async def work() -> None: ...

        async with app, app.worker() as worker:
            await (await work.defer()).result(timeout=PATIENCE)
            pages = health_app(worker)
            proxy.stall()
            async with asyncio.timeout(PATIENCE):
                page = await scrape(pages)
            assert ({}, {}) == (page.values("queue_depth"), page.values("queue_oldest_due_age_seconds"))
            assert {("work",): 1} == page.values("tasks_claimed_total")
            proxy.let_pass()
            proxy.cut()

            await asked(database, "select jobqueue.defer('none', '{}', 'mail', delay => 3600)")

            async def has_depths() -> bool:
                return ("mail", "scheduled") in (await scrape(pages)).values("queue_depth")

            await wait_until(has_depths, "the queues are back")


async def test_nothing_private_is_on_any_page(database: str, fresh: None) -> None:
    """S3-20, S3-23: neither payload, result, meta, key, error, task name from elsewhere, nor a part of the DSN."""
    dsn = f"{database}{'&' if urlsplit(database).query else '?'}application_name={SECRET}-dsn"
    app = App(dsn)

    @app.task(max_attempts=1)
    async def work(text: str, fails: bool) -> str:
        if fails:
            raise Fatal(text, data=text)
        return text

    async with app, app.worker() as worker:
        pages = health_app(worker)
        for fails in (True, False):
            await work.options(meta={"secret": SECRET}, unique=SECRET, origin=SECRET).defer(SECRET, fails)
            await all_ended(database)
        await asked(database, "select jobqueue.defer($1, '{}')", f"{SECRET}-task")
        await wait_until(lambda: UNKNOWN in worker.supervisor.tally.tasks(), "it was met")
        texts = [(await get(pages, page)).text for page in ("/metrics", "/healthz", "/readyz")]
    assert 'task="work"' in texts[0]
    for private in (SECRET, database, urlsplit(database).path.strip("/")):
        assert private not in "".join(texts)
