"""Queues, tasks, workers, schedules and limits: what the pages show, and to whom."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import UUID

import pytest

from jobqueue import App, Limit, Rate
from jobqueue.base.job import WorkerId
from jobqueue.base.settings import Settings
from jobqueue.store.schema.statements import statements
from jobqueue.store.workers import Registration, list_workers, register, show_stuck
from jobqueue.web import Access
from jobqueue.web.dashboard.reading.workers import share_of
from tests.support.jobs.counting import counted_pool
from tests.support.jobs.gate import Gate
from tests.support.jobs.store import connect, open_session
from tests.support.jobs.working import CALM, new_app
from tests.support.waiting import wait_until
from tests.web.dashboard.visiting import READER, visiting

ODD = """<script>alert(1)</script>'"/?#&%é"""
SHOWN = "&lt;script&gt;"
MARKER = "s3cr3t-4711"
COUNTS = "claimed, completed, cancelled, dead, retried"
REST = "snoozed, suspended, released, put_aside, lined_up, refused, lost, seconds"
LISTS = ("/queues", "/tasks", "/workers", "/schedules", "/limits")


@asynccontextmanager
async def odd_shop(database: str, queue: str = "mail") -> AsyncIterator[App]:
    """An App in which everything has an odd name, and every payload has the marker."""
    app = new_app(database, name="shop")

    @app.task(name=ODD, queue=queue, limit=[Limit(1, name=ODD, key="to"), Limit(rate=Rate(9, per=1), name="paced")])
    async def odd(to: str = "nobody") -> None:
        """Says <script>alert(2)</script>."""

    app.cron("0 3 1 1 *", name=ODD)(odd)
    async with app:
        await app.schedules.put(f"stored {ODD}", odd.job(MARKER), "0 4 1 1 *")
        async with app.worker([queue]):
            yield app


def pages(kind: str, name: str) -> str:
    return f"/{kind}/{quote(name, safe='')}"


EVERY = (
    *LISTS, "/queues?empty=show", pages("queues", "mail"), pages("tasks", ODD), pages("schedules", ODD),
    pages("schedules", f"stored {ODD}"), pages("limits", ODD), pages("limits", "paced"),
)  # fmt: skip


async def test_odd_names_are_shown_and_do_nothing(database: str) -> None:
    """A script and quotes in the name of a queue, a task, a schedule, a limit, in a docstring: all escaped."""
    async with odd_shop(database, ODD) as app, visiting(app) as client:
        await app.queues.pause(ODD)
        for path in (*LISTS, *(pages(kind, ODD) for kind in ("queues", "tasks", "schedules", "limits"))):
            page = await client.get(path)
            assert 200 == page.status_code, path
            assert "<script>alert" not in page.text, path
            assert SHOWN in page.text, path
            assert "style=" not in page.text, path


async def test_no_payload_is_shown_to_who_may_not_see_it(database: str) -> None:
    """Arguments of schedules, keys of limits: the marker is nowhere, also not in fragments."""
    async with odd_shop(database) as app:
        task = app.registry.find(ODD)
        assert task is not None
        await app.queues.pause("mail")
        for _ in range(3):
            await task.defer(MARKER)
        await lines_up(app, ODD)
        async with visiting(app, READER) as client:
            for path in EVERY:
                page = await client.get(path, params={"show": "args", "key": MARKER, "from": str(UUID(int=1))})
                assert 200 == page.status_code, path
                said = "default" in page.text and f"to: str = &#39;{MARKER}&#39;" in page.text  # the code's own default
                assert said or MARKER not in page.text, path
        assert [] == await app.audit.list()


async def lines_up(app: App, limit: str) -> None:
    """Return once somebody waits at the limit, or holds a place."""

    async def stands() -> bool:
        found = await app.limits.get(limit)
        return bool(found.waiting or found.held)

    await wait_until(stands, "a job stands at the limit")


async def test_arguments_of_a_schedule_are_shown_on_demand(database: str) -> None:
    """To who may see payloads, and the look is in the audit; a site that redacts shows none, for it needs a job."""
    async with odd_shop(database) as app:
        path = pages("schedules", f"stored {ODD}")
        async with visiting(app, Access("eve", payloads=True)) as client:
            assert MARKER not in (await client.get(path)).text
            assert [] == await app.audit.list()
            assert MARKER in (await client.post(path)).text
        assert ["schedule.look"] == [each.action for each in await app.audit.list()]
        async with visiting(app, redact=lambda job, path, value: value) as client:
            assert MARKER not in (await client.post(path)).text
        async with visiting(app, READER) as client:
            assert MARKER not in (await client.post(path)).text
        assert 1 == len(await app.audit.list())


async def test_foreign_queues_are_left_out_everywhere(database: str) -> None:
    """Whoever sees one queue sees nothing of another, its tasks, schedules, limits, workers; nor that it is there."""
    async with odd_shop(database, "bank") as app, visiting(app, Access("eve", True, True, ["mail"])) as client:
        for path in LISTS:
            page = await client.get(path)
            assert (200, False, False) == (page.status_code, SHOWN in page.text, "bank" in page.text), path
        for kind, name in (("queues", "bank"), ("tasks", ODD), ("schedules", ODD), ("limits", ODD)):
            assert 404 == (await client.get(pages(kind, name))).status_code, kind
        id = (await app_workers(app))[0]
        assert 404 == (await client.get(f"/workers/{id}")).status_code


async def app_workers(app: App) -> list[UUID]:
    return [each.id for each in await list_workers(await app.looks())]


async def test_a_worker_of_many_queues_shows_what_may_be_seen(database: str) -> None:
    """Of its jobs and queues those that are foreign are not even counted."""
    app, gate = new_app(database), Gate()

    @app.task(queue="bank")
    async def theirs() -> None:
        await gate.step()

    @app.task(queue="mail")
    async def ours() -> None:
        await gate.step()

    async with app, app.worker(["mail:3", "bank"], concurrency=7):
        await theirs.defer()
        await theirs.defer()
        await ours.defer()
        await wait_until(lambda: gate.runs == 3, "all three run")
        (id,) = await app_workers(app)
        async with visiting(app, Access("eve", queues=["mail"])) as client:
            for path in ("/workers", f"/workers/{id}"):
                page = (await client.get(path)).text
                assert (True, False, False) == ("mail, at most 3" in page, "bank" in page, "theirs" in page), path
            assert "1 / 7" in (await client.get("/workers")).text
        async with visiting(app) as client:
            assert "3 / 7" in (await client.get("/workers")).text
            page = (await client.get(f"/workers/{id}")).text
            assert page.count(">theirs</a>") == 2
        gate.open.set()


HINTS = {
    "/queues": "defer(...)", "/tasks": "App(tasks=", "/workers": "python -m jobqueue worker",
    "/schedules": "@app.cron", "/limits": "Limit(3",
}  # fmt: skip


async def test_an_empty_installation_says_what_to_do(database: str) -> None:
    """A first visit tells how there comes to be one."""
    assert set(LISTS) == HINTS.keys()
    async with new_app(database) as app, visiting(app) as client:
        for path, hint in HINTS.items():
            page = await client.get(path)
            assert (200, True) == (page.status_code, hint in page.text.replace("&#34;", '"')), path


async def test_what_is_not_there_is_no_error(database: str) -> None:
    """A queue that never had a job is empty; a task or worker that nobody knows is a page that says so."""
    async with new_app(database) as app, visiting(app) as client:
        for path in ("/queues/never", "/tasks/never", "/workers/never", f"/workers/{UUID(int=1)}"):
            page = await client.get(path)
            assert (200 if "queues" in path else 404) == page.status_code, path
            assert path.rpartition("/")[2] in page.text, path


async def test_a_queue_says_what_is_wrong(database: str) -> None:
    """Paused since, until and by whom; nobody serves it; what it keeps, in words."""
    async with new_app(database) as app, visiting(app) as client:

        @app.task(queue="mail")
        async def note() -> None: ...

        await note.defer()
        assert "No worker takes jobs from it" in (await client.get("/queues/mail")).text
        await client.post("/act/queues/pause", data={"queue": "mail", "minutes": "5"})
        await client.post("/act/queues/keep", data={"queue": "mail", "completed": "12h", "most_other": "7"})
        page = (await client.get("/queues/mail")).text
        assert "by <b>ada</b>" in page
        assert "in 4\u202fmin" in page or "in 5\u202fmin" in page
        assert "12\u202fh" in page and "the newest 7" in page and "as the settings say" in page
        listed = (await client.get("/queues?find=ai")).text
        assert "paused" in listed and "Resume" in listed
        assert "No queue has this in its name" in (await client.get("/queues?find=xyz")).text
        (stats,) = await app.queues.stats()
        assert (43_200.0, 7) == (stats.keep.completed, stats.keep.most_other)


async def test_queues_without_jobs_are_hidden_until_asked_for(database: str) -> None:
    """And counted, so that nobody looks for them in vain."""
    async with new_app(database) as app, visiting(app) as client:
        await app.queues.keep("old", completed=60)
        hidden = (await client.get("/queues")).text
        assert ("1 without jobs hidden" in hidden, "/queues/old" in hidden) == (True, False)
        assert "/queues/old" in (await client.get("/queues?empty=show")).text


async def test_a_schedule_is_steered_from_its_page(database: str) -> None:
    """Its next ten times, its last jobs; pause for minutes, resume, run now, backfill after a count."""
    app = new_app(database)

    @app.task(queue="mail")
    async def remind(user: int) -> None: ...

    async with app, visiting(app) as client:
        await app.schedules.put("r", remind.job(1), "0 * * * *", tz="Europe/Vienna")
        page = (await client.get("/schedules/r")).text
        assert 10 == page.split("Next times")[1].split("</section>")[0].count("<time")
        assert "No worker is alive" in page
        await client.post("/act/schedules/pause", data={"name": "r", "minutes": "30"})
        until = (await app.schedules.get("r")).paused_until
        assert until is not None and timedelta(minutes=25) < until - datetime.now(UTC) < timedelta(minutes=35)
        assert "Paused since" in (await client.get("/schedules/r")).text
        await client.post("/act/schedules/resume", data={"name": "r"})
        await client.post("/act/schedules/trigger", data={"name": "r"})
        assert "state-ready" in (await client.get("/schedules/r")).text
        asked = {"since": "2026-03-01T00:00Z", "until": "2026-03-01T05:00Z"}
        assert "5 planned times lie" in (await client.get("/schedules/r", params=asked)).text
        await client.post("/act/schedules/backfill", data={"name": "r", **asked})
        assert 6 == sum((await app.jobs.counts()).by_state.values())
        assert [("schedule.backfill", "ada")] == [
            (each.action, each.who) for each in await app.audit.list(action="schedule.backfill")
        ]


NO_BACKFILL: list[tuple[dict[str, str], str]] = [
    ({"since": "soon"}, "since: must be a moment"),
    ({"since": "2026-03-01T00:00", "until": "2026-03-01T05:00"}, "300 planned times lie"),
    ({"since": "2026-03-02T00:00Z", "until": "2026-03-01T00:00Z"}, "must be before until"),
    ({"since": "2026-03-01T00:00Z", "until": "2999-03-01T00:00Z"}, "must not be in the future"),
    ({"since": "1970-03-01T00:00Z"}, "do it in parts"),
]


async def test_a_backfill_that_cannot_be_says_why(database: str) -> None:
    """Before anything is stored."""
    app = new_app(database)

    @app.task
    async def remind() -> None: ...

    async with app, visiting(app) as client:
        await app.schedules.put("r", remind.job(), "* * * * *")
        for params, told in NO_BACKFILL:
            page = await client.get("/schedules/r", params=params)
            assert (200, True) == (page.status_code, told in page.text), params


async def test_a_schedule_that_plain_sql_has_broken_ends_no_page(database: str) -> None:
    """Whatever its row says, it is shown, with what is wrong."""
    app = new_app(database)

    @app.task
    async def remind() -> None: ...

    async with app, visiting(app) as client:
        await app.schedules.put("r", remind.job(), "* * * * *")
        async with connect(database) as connection:
            await connection.execute(
                "update jobqueue.schedule set cron = '<b>', tz = 'Mars/X', options = '[]', args = '3'"
            )
        assert [200, 200] == [(await client.get(path)).status_code for path in ("/schedules", "/schedules/r")]
        assert "Its times cannot be told" in (await client.post("/schedules/r")).text
        assert "cannot" in (await client.get("/schedules/r?since=2026-03-01T00:00Z")).text


async def test_a_limit_shows_its_lines_and_is_changed(database: str) -> None:
    """Who holds a place and runs, who is next of a key; set for all workers, reset."""
    app, gate = new_app(database), Gate()

    @app.task(queue="mail", limit=Limit(1, key="tenant"))
    async def send(tenant: str) -> None:
        await gate.step()

    async with app, app.worker(["mail"]), visiting(app) as client:
        for _ in range(3):
            await send.defer("acme")
        await gate.begun.wait()

        async def two_wait() -> bool:
            return 2 == (await app.limits.get("send")).waiting

        await wait_until(two_wait, "two jobs wait")
        page = (await client.get("/limits/send?key=acme")).text
        assert 'href="/limits/send"' in (await client.get("/queues/mail")).text
        holders = page.split("Hold a place and run")[1]
        waiting = page.split("Next in line of acme")[1].split("</section>")[0]
        assert (1, 2) == (holders.count("/jobs/"), waiting.count("/jobs/"))
        await client.post("/act/limits/set", data={"name": "send", "concurrency": "0"})
        assert "Nothing more begins" in (await client.get("/limits/send")).text
        await client.post("/act/limits/reset", data={"name": "send"})
        assert 1 == (await app.limits.get("send")).concurrency
        gate.open.set()


async def test_a_task_shows_what_is_said_of_it(database: str) -> None:
    """Signature without the context, options that differ, schedule, limits, how to defer it from Python and SQL."""
    async with odd_shop(database) as app, visiting(app) as client:

        @app.task(queue="mail", timeout=90, max_attempts=3)
        async def plain(order: int, *, cents: int = 100) -> None:
            """Does it."""

        page = (await client.get("/tasks/plain")).text
        assert "(order: int, *, cents: int = 100) -&gt; None" in page
        assert "Does it." in page
        assert "await test_a_task_shows_what_is_said_of_it.&lt;locals&gt;.plain.defer(order=...)" in page
        assert (
            "select jobqueue.defer(&#39;plain&#39;, &#39;{&#34;order&#34;: null}&#39;, queue =&gt; &#39;mail&#39;);"
            in page
        )
        assert "Max attempts" in page and "90 s" in page
        listed = (await client.get("/tasks")).text
        assert "limit &lt;script&gt;" in listed and "schedule &lt;script&gt;" in listed


async def test_a_task_that_only_the_database_knows_is_told(database: str) -> None:
    """A deploy has renamed it, perhaps: it is listed apart, and its page says what to do. Foreign ones are not."""
    async with connect(database) as connection:
        for queue in ("mail", "bank"):
            for table in ("minute", "hour"):
                await connection.execute(
                    f"insert into jobqueue.{table} (at, queue, task, {COUNTS}, {REST}, run, wait)"
                    f" values (date_trunc('{table}', now()), $1, $2, 4, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 9,"
                    f" '{{1}}', '{{1}}')",
                    queue, f"old {queue}",
                )  # fmt: skip
    async with new_app(database) as app, visiting(app, Access("eve", True, True, ["mail"])) as client:
        listed = (await client.get("/tasks")).text
        page = await client.get("/tasks/old%20mail")
        assert 404 == (await client.get("/tasks/old%20bank")).status_code
    assert (True, False) == ("old mail" in listed, "old bank" in listed)
    assert (200, True) == (page.status_code, "not registered here" in page.text)
    assert ("aliases=[" in page.text, 'id="defer"' in page.text) == (True, False)


async def test_who_is_stuck_is_shown_with_its_stack(database: str) -> None:
    """In the list, on its worker's page with the user's own frames apart, on the job's page with a link there."""
    app, gate = new_app(database), Gate()

    @app.task(queue="mail")
    async def cling() -> None:
        await gate.step()

    async with app, app.worker(["mail", "bank"]):
        job = await cling.defer()
        await gate.begun.wait()
        (id,) = await app_workers(app)
        stack = "/srv/shop.py:7 cling > /usr/lib/python3.11/asyncio/locks.py:9 wait"
        said = {"job_id": str(job.id), "task": "cling", "seconds_since": 3, "how": "asked to end", "stack": stack}
        async with open_session(database) as session:
            await show_stuck(session, WorkerId(id), [said])
        async with visiting(app) as client:
            assert "1 stuck" in (await client.get("/workers")).text
            page = (await client.get(f"/workers/{id}")).text
            assert '<span class="t-own">/srv/shop.py:7 in cling' in page
            assert '<span class="t-library">/usr/lib/python3.11/asyncio/locks.py:9 in wait' in page
            assert f"/workers/{id}#stuck-{job.id}" in (await client.get(f"/jobs/{job.id}")).text
            assert f'id="stuck-{job.id}"' in page
        async with visiting(app, Access("eve", queues=["bank", "mail"])) as client:
            assert "/srv/shop.py" in (await client.get(f"/workers/{id}")).text
        async with visiting(app, Access("eve", queues=["bank"])) as client:
            for path in ("/workers", f"/workers/{id}"):
                seen = await client.get(path)
                told = "1 stuck" in seen.text, "/srv/shop.py" in seen.text, "cling" in seen.text
                assert (200, False, False, False) == (seen.status_code, *told), path
        gate.open.set()


async def test_two_versions_at_once_are_worth_a_note(database: str) -> None:
    """And a worker that was lost says when, and what becomes of its jobs."""
    lost = UUID(int=7)
    async with new_app(database) as app, app.worker(["mail"]), visiting(app) as client:
        assert "versions of jobqueue" not in (await client.get("/workers")).text
        async with open_session(database) as session:
            for id, alive in ((UUID(int=6), 60.0), (lost, -9.0)):
                told = Registration("shop", "0.0.1", ["mail"], 5, alive, None, None)
                await register(session, WorkerId(id), told)

        async def three() -> bool:
            return "versions of jobqueue" in (await client.get("/workers")).text

        await wait_until(three, "the last look is over")
        assert "Lost or leaving" in (await client.get("/workers")).text
        assert "Its beats stopped" in (await client.get(f"/workers/{lost}")).text


@pytest.mark.parametrize(
    ("told", "queue", "share"),
    [
        (["mail"], "mail", 0), (["mail:5"], "mail", 5), (["*"], "mail", 0), (["*", "mail:2"], "mail", 2),
        (["*", "-mail"], "mail", None), (["bank"], "mail", None), (["a:b:3"], "a:b", 3), ([], "mail", None),
    ],
)  # fmt: skip
def test_what_a_worker_was_told_says_which_queues_it_serves(told: list[str], queue: str, share: int | None) -> None:
    """As the claims read it."""
    assert share == share_of(told, queue)


async def test_pages_cost_a_few_statements_however_much_there_is(database: str) -> None:
    """No page asks once for each queue, task, worker or schedule."""
    async with counted_pool(database) as (pool, sent):
        app = App(pool=pool, settings=Settings(**CALM))
        for place in range(30):

            async def note() -> None: ...

            app.task(name=f"t{place}", queue=f"q{place}")(note)
        async with app, visiting(app) as client:
            for task in app.registry:
                await task.defer()
            costs = {}
            for path in (*LISTS, "/queues/q1", "/tasks/t1"):
                await client.get(path)
                sent.calls.clear()
                assert 200 == (await client.get(path)).status_code
                costs[path] = sum(sent.calls[name] for name in statements() if name in sent.calls)
    assert {} == {path: cost for path, cost in costs.items() if cost > 12}, costs
