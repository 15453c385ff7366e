"""A shop whose queue has some of everything, under names that would break a careless page."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from jobqueue import App, JobContext, JobHandle, JobState, Limit
from jobqueue.base.looking.search import fingerprint_of
from tests.support.jobs.working import end_of, new_app, reached

BY = "ada"
ODD = "<script>alert(\"1\")</script>/'odd' & ünï%20?#"
LONG = "long_" + 19 * "name_"
RIGHT_TO_LEFT = "بريد وارد 📬"
SECRET = '<img src=x onerror="alert(1)">'
"""In arguments and errors."""
HISTORY = """
insert into jobqueue.minute (at, queue, task, claimed, completed, cancelled, dead, retried, snoozed, suspended,
  released, put_aside, lined_up, refused, lost, seconds, run, wait)
select date_trunc('minute', now()) - make_interval(mins => back), queue, task, 90, 60 + 29 * (back %% 3), 0,
  case queue when 'billing' then 9 else 0 end, case queue when 'billing' then 40 else back %% 4 end,
  0, 0, 0, 0, 0, 0, 0, 90, '{0,0,30,40,20}', '{10,30,40,10}'
from generate_series(0, 59) back,
  (values ('mail', 'send_mail'), ('billing', 'charge'), (%(odd)s, %(odd)s), ('', '')) t (queue, task)
on conflict do nothing;
insert into jobqueue.hour select * from jobqueue.minute on conflict do nothing;
insert into jobqueue.depth (at, queue, ready, scheduled, blocked, running, oldest_due, deferred)
select date_trunc('minute', now()) - make_interval(mins => back), queue, 40 + back %% 7, 9, 0, back %% 5, 1,
  100000 - 95 * back
from generate_series(0, 59) back, (values (''), ('mail'), ('billing'), (%(odd)s)) t (queue)
on conflict do nothing;
insert into jobqueue.worker (id, app, host, pid, version, queues, concurrency, started_at, seen_at, alive_until)
select jobqueue.new_id(), %(odd)s, %(long)s, 4711, '0.0.1', '{*}', 8, now() - interval '1 day',
  now() - interval '1 hour', now() - interval '50 minutes';
update jobqueue.worker set stuck_at = now(), stuck = json_build_array(json_build_object(
  'job_id', (select id from jobqueue.job where task = 'resize' and state = 'running' limit 1), 'task', 'resize',
  'seconds_since', 44, 'how', 'blocks the loop', 'stack', 'File "<script>alert(1)</script>", line 1, in resize'))
where alive_until > now();
"""
"""What only time brings: an hour of counts, a worker that was lost, a handler that is stuck."""


class CardDeclined(Exception):
    """The shop's own error."""


@dataclass(frozen=True)
class Shop:
    """What there is."""

    app: App
    dsn: str
    jobs: dict[str, UUID]
    """One of each kind."""
    bundle: UUID
    webhook: UUID
    bulk: UUID
    fingerprint: str
    worker: UUID


@contextlib.asynccontextmanager
async def open_shop(dsn: str) -> AsyncIterator[Shop]:
    """A shop at work: its worker runs some jobs, others wait, have failed, or are blocked."""
    app, hold = new_app(dsn, name="shop"), asyncio.Event()
    tasks = _tasks(app, hold)
    async with app, app.worker(concurrency=12, queues=["*", "-reports", f"-{LONG}"]) as work:
        jobs, bundle = await _jobs(app, tasks)
        hook = await app.webhooks.create("https://hooks.example/in?token=geheim", "job.dead", by=BY)
        error = (await app.jobs.get(jobs["dead"])).error
        assert error is not None
        fingerprint = fingerprint_of("charge", error.error_class, error.code_place)
        bulk = await app.jobs.bulk("cancel", task=ODD, queue="nowhere", by=BY)
        await app.schedules.pause("sweep", by=BY)
        await app.jobs.retry(jobs["dead"], by=BY, dry_run=True)
        await app.jobs.move(jobs["scheduled"], to="mail", by=BY)
        await app.queues.pause("reports", seconds=timedelta(hours=1), by=ODD)
        await app.queues.keep("mail", completed=timedelta(days=2), by=BY)
        async with await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, cursor_factory=psycopg.AsyncClientCursor
        ) as connection:
            await connection.execute(HISTORY, {"odd": ODD, "long": LONG})
        try:
            yield Shop(app, dsn, jobs, bundle, hook.id, bulk.id, fingerprint, work.id)
        finally:
            hold.set()


def _tasks(app: App, hold: asyncio.Event) -> dict[str, Any]:
    @app.task(queue="mail")
    async def send_mail(to: str, *, subject: str = "hello", urgent: bool = False) -> str:
        """Send a mail to somebody."""
        return to

    @app.task(queue="billing", max_attempts=1, limit=Limit(5, key="order"))
    async def charge(order: int, *, currency: str = "EUR") -> None:
        raise CardDeclined(f"the issuer answered 05 for {order} {SECRET}")

    @app.task(queue="media", timeout=3600)
    async def resize(ctx: JobContext, path: str) -> None:
        ctx.progress(0.4, f"tile 4 of 10 {SECRET}")
        await hold.wait()

    @app.task(queue="media")
    async def index(ctx: JobContext, path: str) -> None:
        await ctx.phase("read the file", str, path)
        await ctx.sleep("until tomorrow", 86_400)

    @app.cron("*/5 * * * *", name="sweep")
    @app.task
    async def sweep() -> None: ...

    @app.cron("0 7 * * *", name=ODD, tz="Europe/Vienna")
    @app.task(name=ODD, queue=ODD)
    async def odd(what: str = "") -> dict[str, str]:
        return {ODD: SECRET}

    @app.task(name=LONG, queue=LONG)
    async def long(what: str = "") -> None: ...

    app.limit_queue("media", Limit(20))
    tasks = (send_mail, charge, resize, index, sweep, odd, long)
    return {"odd": odd, "long": long, **{each.name: each for each in tasks}}


async def _jobs(app: App, tasks: dict[str, Any]) -> tuple[dict[str, UUID], UUID]:
    async def defer(task: str, *args: object, **options: Any) -> JobHandle[Any]:
        handle: JobHandle[Any] = await tasks[task].options(**options).defer(*args)
        return handle

    ended = [await defer("send_mail", f"u{each}@example.com") for each in range(3)]
    ended += [
        await defer("odd", SECRET, unique=ODD, meta={"from": ODD}),
        await defer("odd", SECRET, queue=RIGHT_TO_LEFT),
    ]
    dead = [await defer("charge", order) for order in range(88_120, 88_124)]
    phased = await defer("index", "a.png")
    running = await defer("resize", "b.png")
    scheduled = await defer("send_mail", "later@example.com", delay=3600, unique="mail:later", queue="later")
    waiting = [await defer("long", ODD, queue=LONG), await defer("sweep", queue="reports")]
    async with app.bundle(f"import {ODD}", on_finish=tasks["sweep"].job()) as bundle:
        first = bundle.add(tasks["send_mail"].job("first@example.com"))
        second = bundle.add(tasks["long"].job("second"), after=[first])
        bundle.add(tasks["resize"].job("c.png"), after=[first])
        last = bundle.add(tasks["odd"].job("last"), after=[first, second])
    for each in (*ended, *dead):
        await end_of(app, each)
    await reached(app, running, JobState.RUNNING)
    await reached(app, phased, JobState.SCHEDULED)
    jobs = {
        "completed": ended[3], "dead": dead[0], "phased": phased, "running": running, "scheduled": scheduled,
        "ready": waiting[0], "blocked": last,
    }  # fmt: skip
    return {name: each.id for name, each in jobs.items()}, bundle.id
