"""The first page: what an operator sees at a glance."""

import re

import pytest

from jobqueue.web import Access
from jobqueue.web.dashboard.reading import recent
from tests.support.jobs.store import connect
from tests.support.jobs.working import new_app
from tests.web.dashboard.visiting import visiting

TROUBLE = """
insert into jobqueue.job (queue, task, state, due_at, crashes, aside_since) values
  ('lonely', 'work', 'ready', now(), 0, null), ('held', 'work', 'ready', now(), 0, null),
  ('slow', 'work', 'ready', now() - interval '20 minutes', 0, null), ('mail', 'work', 'ready', now(), 1, null),
  ('mail', 'renamed', 'scheduled', now() + interval '1 hour', 0, now());
insert into jobqueue.queue (name, paused_at) values ('held', now())
  on conflict (name) do update set paused_at = excluded.paused_at;
insert into jobqueue.worker (id, app, host, pid, version, queues, concurrency, alive_until) values
  (jobqueue.new_id(), 'gone', 'web-1', 1, '0.1.0', '{mail}', 8, now() - interval '1 minute'),
  (jobqueue.new_id(), 'busy', 'web-2', 2, '0.1.0', '{mail,slow,held}', 8, now() + interval '1 hour');
update jobqueue.worker set stuck_at = now(), stuck = '[{"job_id": "01900000-0000-7000-8000-000000000002",
  "task": "hang", "seconds_since": 44, "how": "asked to end", "stack": ""}]' where app = 'busy';
insert into jobqueue.minute (at, queue, task, claimed, completed, cancelled, dead, retried, snoozed, suspended,
  released, put_aside, lined_up, refused, lost, seconds, run, wait)
  values (date_trunc('minute', now()) - interval '1 minute', 'billing', 'charge', 20, 10, 0, 4, 6, 0, 0, 0, 0, 0, 0, 0,
    1, '{20}', '{20}');
insert into jobqueue.webhook (id, url, types, cursor, failures, failing_since, disabled_reason) values
  (jobqueue.new_id(), 'https://down.example/in', '{}', 0, 3, now(), null),
  (jobqueue.new_id(), 'https://once.example/in', '{}', 0, 2, now(), null),
  (jobqueue.new_id(), 'https://gone.example/in', '{}', 0, 0, null, 'gone');
"""
TOLD = {
    "lonely": "no worker takes jobs from it, 1 waits",
    "held": "paused, 1 waits",
    "slow": "does not keep up: its oldest job has waited for 20",
    "mail": "1 job was running when its worker died",
    "renamed": "1 job put aside",
    "gone": "a worker was lost",
    "hang": "is stuck for",
    "billing": "fails: 50 % of its attempts",
    "down.example": "does not take webhooks: 3 tries in a row have failed",
    "gone.example": "gets no webhooks any more",
    "PostgreSQL": "a transaction has been open for",
}


async def test_an_empty_installation_says_what_to_do(database: str) -> None:
    """No queue, no worker: the page says how one comes to be."""
    async with new_app(database) as app, visiting(app) as client:
        page = await client.get("/")
    assert 200 == page.status_code
    assert "python -m jobqueue worker" in page.text


async def test_the_menu_counts_what_may_be_seen(database: str) -> None:
    """Who sees some queues is told of these alone. Before the first look there are no numbers: none is asked for."""
    app = new_app(database)

    @app.task(queue="mail")
    async def send() -> None: ...

    @app.task(queue="bank")
    async def charge() -> None: ...

    async with app, app.worker(queues=["other"]):
        await send.defer()
        await charge.defer()
        for access, counted in (
            (Access("ada"), {"queues": "2", "errors": "", "tasks": "2", "workers": "1"}),
            (Access("eve", queues=["mail"]), {"queues": "1", "errors": "", "tasks": "1", "workers": ""}),
        ):
            async with visiting(app, access) as client:
                assert "PostgreSQL" not in (await client.get("/audit")).text
                page = (await client.get("/")).text
                assert counted == dict(re.findall(r'data-live="menu\.(\w+)">([^<]*)<', page))
                assert "<br>PostgreSQL 1" in page


async def test_what_needs_attention_is_told_first(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S2-18: each trouble in a line of its own, which leads to a page that is there; a foreign queue's is not told."""
    monkeypatch.setattr(recent, "_OLD", -1.0)
    async with new_app(database) as app, connect(database) as other, visiting(app) as client:
        await other.execute(TROUBLE)
        async with other.transaction(isolation="repeatable_read"):
            await other.fetchval("select count(*) from jobqueue.job")
            page = (await client.get("/?part=attention")).text.replace("\u202f", " ")
        told = dict(re.findall(r"<b><bdi>(.*?)</bdi></b>\s*(.*?)</span>", page, re.DOTALL))
        assert TOLD.keys() == told.keys()
        for subject, words in TOLD.items():
            assert told[subject].startswith(words), subject
        for href in re.findall(r'<a href="(.*?)"', page):
            assert 200 == (await client.get(href)).status_code, href
        async with visiting(app, Access("eve", queues=["held"])) as eve:
            seen = (await eve.get("/?part=attention")).text
        assert ["held"] == re.findall(r"<b><bdi>(.*?)</bdi></b>", seen)
