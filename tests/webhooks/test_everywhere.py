"""The log, its streams and its webhooks together, while workers and their relays are killed."""

import asyncio
import signal
from pathlib import Path
from uuid import UUID

from jobqueue.base.job import JobState
from jobqueue.store.connection.pool import Database
from jobqueue.store.upkeep import Ages, sweep
from jobqueue.web import events
from tests.support.jobs.store import open_database
from tests.support.jobs.told import cancelled, make_old
from tests.support.jobs.working import asked
from tests.support.patience import PATIENCE
from tests.support.programs.processes import command_line
from tests.support.receiver import KEY, defer, delivered_soon, hooked_app, receiving, status
from tests.support.waiting import wait_until
from tests.web.streams import Message, everybody, site, streaming

JOBS = 120
SHOP = """
import os
from jobqueue import App, Settings

settings = Settings(poll=0.5, webhook_networks=("127.0.0.1/32",), lease=6, beat=2, rescue_interval=0.5, concurrency=5)
app = App(os.environ["SHOP_DSN"], settings=settings)

@app.task
async def note(text: str) -> str:
    return text
"""


OUT_OF_ORDER = """
with delivery as (
  select created_at, (args ->> 'body')::json ->> 'sequence' as sequence from jobqueue.job_archive
  where task = 'jobqueue.webhook'
)
select coalesce(array_agg(later.sequence), '{}') from delivery earlier join delivery later
  on earlier.created_at < later.created_at and earlier.sequence::bigint > later.sequence::bigint
"""


async def dropped(database: Database) -> bool:
    """By us, unless somebody reads in it just now, or by a worker."""
    await sweep(database, Ages(events=86_400.0))
    async with database.connection() as connection:
        return bool(await connection.fetchval("select seq > 0 from jobqueue.event_floor"))


class Browser:
    """Reads the site's stream, coming back as often as it ends."""

    def __init__(self, url: str) -> None:
        self.heard: list[Message] = []
        self._reading = asyncio.create_task(self._read(url))
        self._begun = asyncio.Event()

    async def _read(self, url: str) -> None:
        place = None
        while True:
            async with streaming(url, "types=job.completed&task=note", after=place) as client:
                self._begun.set()
                async for message in client.messages():
                    self.heard += [message] if message.event else []
                    place = client.place
                place = client.place

    async def begun(self) -> None:
        await self._begun.wait()

    async def end(self) -> None:
        self._reading.cancel()
        await asyncio.wait({self._reading})

    @property
    def jobs(self) -> list[UUID]:
        return [message.job for message in self.heard]


async def test_each_event_reaches_everybody_once(database: str, tmp_path: Path) -> None:
    """S2-22: two workers, a site, two browsers, a receiver that is down at first; a worker is killed with its relay.

    Retention drops a day meanwhile. Each end is heard once by each browser, in one order; each is posted under one id,
    and the deliveries are made in that order.
    """
    app = hooked_app(database)
    with command_line(tmp_path) as cli:
        cli.module("shop", SHOP)
        cli.environment |= {"SHOP_DSN": database, "JOBQUEUE_WEBHOOK_KEY": KEY}
        async with app, receiving(status(503), status(503), status(200)) as receiver:
            await cancelled(app, 3)
            await make_old(database, days=5)
            hook = await app.webhooks.create(receiver.url, "job.completed", task="note")
            async with site(events(app, authorize=everybody)) as url:
                browsers = [Browser(url), Browser(url)]
                for browser in browsers:
                    await browser.begun()
                workers = [cli.start("worker", "shop") for _ in range(2)]
                handles = [await defer(app, "note") for _ in range(JOBS // 2)]
                await wait_until(lambda: len(receiver.posts) >= 2, "the receiver was called")
                workers[0].signal(signal.SIGKILL)
                await workers[0].ends()
                workers[0] = cli.start("worker", "shop")
                async with open_database(database) as other:
                    await wait_until(lambda: dropped(other), "retention drops the old day")
                handles += [await defer(app, "note") for _ in range(JOBS // 2)]
                await wait_until(
                    lambda: all(len(browser.heard) >= JOBS for browser in browsers), "both have heard all", PATIENCE
                )
                deliveries = await delivered_soon(app, hook, JOBS)
                for browser in browsers:
                    await browser.end()
            for worker in workers:
                worker.signal(signal.SIGTERM)
            codes = [await worker.ends() for worker in workers]
            left = await app.webhooks.deliveries(hook.id, state=[state for state in JobState if not state.final])

    first, second = browsers
    assert [0, 0] == codes
    assert sorted(handle.id for handle in handles) == sorted(first.jobs)
    assert first.jobs == second.jobs
    assert (JOBS, []) == (len(deliveries), left)
    told = {post.id: post.json for post in receiver.posts}
    assert {str(delivery.id) for delivery in deliveries} == set(told)
    assert sorted(first.jobs) == sorted(UUID(post["data"]["job_id"]) for post in told.values())
    assert len(receiver.posts) >= JOBS + 2, "those that were refused at first were posted again"
    assert [] == await asked(database, OUT_OF_ORDER), "they are made in the order of the log"
