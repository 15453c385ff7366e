"""What is done from the dashboard: previewed, refused with a reason, written to the audit with the user's name."""

from uuid import UUID

import httpx

from jobqueue import App, JobState
from jobqueue.web import Access
from tests.support.jobs.working import new_app
from tests.web.dashboard.visiting import READER, visiting


def app_with_task(database: str) -> App:
    """An App that can defer a note."""
    app = new_app(database)

    @app.task(queue="mail")
    async def note(to: str) -> None: ...

    return app


async def deferred(app: App, number: int = 1, queue: str = "mail") -> list[str]:
    """So many notes."""
    note = app.registry.find("note")
    assert note is not None
    handles = [await note.options(queue=queue).defer(f"n{place}") for place in range(number)]
    return [str(handle.id) for handle in handles]


async def test_jobs_that_are_selected_are_cancelled_after_a_preview(database: str) -> None:
    """The preview counts and changes nothing; the act changes them, and says so by the row of the audit."""
    async with app_with_task(database) as app, visiting(app) as client:
        ids = await deferred(app, 3)
        asked = await client.get("/preview/jobs/cancel", params={"id": ids, "back": "/jobs?queue=mail"})
        assert "Cancel 3 jobs" in asked.text
        assert 3 == (await app.jobs.counts()).by_state[JobState.READY]
        done = await client.post("/act/jobs/cancel", data={"id": ids, "back": "/jobs?queue=mail"})
        assert 303 == done.status_code
        assert 3 == (await app.jobs.counts()).by_state[JobState.CANCELLED]
        (entry,) = await app.audit.list()
        assert ("ada", "web", "job.cancel", 3, 3) == (entry.who, entry.via, entry.action, entry.matched, entry.changed)
        assert f"/jobs?queue=mail&did={entry.id}" == done.headers["location"]
        assert "3 of 3 changed" in (await client.get(f"/?did={entry.id}")).text
        again = await client.post("/act/jobs/retry", data={"id": ids, "back": f"/jobs?queue=mail&did={entry.id}"})
        assert f"/jobs?queue=mail&did={entry.id + 1}" == again.headers["location"]
        async with visiting(app, READER) as other:
            assert "3 of 3 changed" not in (await other.get(f"/?did={entry.id}")).text


async def test_all_that_match_are_changed(database: str) -> None:
    """A filter means what it means at the moment of the act, not of the preview."""
    async with app_with_task(database) as app, visiting(app) as client:
        await deferred(app, 2)
        await deferred(app, 1, "other")
        assert "Move 2 jobs" in (await client.get("/preview/jobs/move", params={"queue": "mail"})).text
        await deferred(app, 1)
        await client.post("/act/jobs/move", data={"queue": "mail", "to": "slow"})
        queues = {each.queue: each.ready for each in await app.queues.stats()}
        assert {"slow": 3, "other": 1} == {name: ready for name, ready in queues.items() if ready}


async def test_what_is_refused_says_why(database: str) -> None:
    """A job that has ended cannot be cancelled: the page says so, and the audit."""
    async with app_with_task(database) as app, visiting(app) as client:
        ids = await deferred(app)
        await client.post("/act/jobs/cancel", data={"id": ids})
        again = await client.post("/act/jobs/cancel", data={"id": ids})
        page = await client.get(again.headers["location"])
    assert "0 of 1 changed" in page.text
    assert "they have ended" in page.text


SENSELESS: list[tuple[str, dict[str, str | list[str]], str]] = [
    ("move", {"queue": "mail"}, "to: must not be empty"),
    ("priority", {"queue": "mail", "priority": "high"}, "priority: must be a whole number"),
    ("reschedule", {"queue": "mail", "delay": "soon"}, "delay: must be a number"),
    ("reschedule", {"queue": "mail", "at": "tomorrow"}, "at: must be a moment"),
    ("cancel", {"id": "17"}, "id: must be a UUID"),
    ("cancel", {}, "no job is named"),
    ("forget", {"queue": "mail"}, "action: must be one of"),
    ("cancel", {"id": [str(UUID(int=number)) for number in range(1_001)]}, "at most 1000 jobs"),
    ("cancel", {"id": ["x"] * 2_001}, "at most 2000 fields"),
    ("delete", {"queue": "mail", "count": "2000", "typed": "200"}, "typed: must be the number of jobs"),
]
"""Verbs with what their forms say, and what is told."""


async def test_a_form_that_makes_no_sense_changes_nothing(database: str) -> None:
    """Each says which field, and what to do."""
    async with app_with_task(database) as app, visiting(app) as client:
        await deferred(app)
        for verb, form, told in SENSELESS:
            answer = await client.post(f"/act/jobs/{verb}", data=form)
            assert (400, True) == (answer.status_code, told in answer.text), (verb, form)
        large = await client.post("/act/jobs/cancel", data={"queue": "mail", "key": "x" * (2 << 20)})
        assert (413, True) == (large.status_code, "at most 2097152 bytes" in large.text)
        assert 1 == (await app.jobs.counts()).by_state[JobState.READY]
        assert [] == await app.audit.list()


async def test_who_may_only_look_changes_nothing(database: str) -> None:
    """Neither by the page nor by hand."""
    async with app_with_task(database) as app, visiting(app, READER) as client:
        ids = await deferred(app)
        assert 403 == (await client.post("/act/jobs/cancel", data={"id": ids})).status_code
        assert 403 == (await client.get("/preview/jobs/cancel", params={"id": ids})).status_code
        assert 403 == (await client.get("/preview/schedules/delete", params={"name": "nightly"})).status_code


async def test_jobs_of_foreign_queues_are_left_alone(database: str) -> None:
    """They are as good as not there: named, or by a filter."""
    async with app_with_task(database) as app, visiting(app, Access("eve", operate=True, queues=["mail"])) as client:
        (ours,), (theirs,) = await deferred(app), await deferred(app, 1, "bank")
        await client.post("/act/jobs/cancel", data={"id": [ours, theirs]})
        assert JobState.CANCELLED is (await app.jobs.get(ours)).state
        assert JobState.READY is (await app.jobs.get(theirs)).state
        for form in ({"queue": "bank"}, {"state": "ready"}, {"id": theirs}):
            assert 400 == (await client.post("/act/jobs/cancel", data=form)).status_code
        assert 400 == (await client.post("/act/queues/pause", data={"queue": "bank"})).status_code
        assert 1 == (await app.jobs.counts()).by_state[JobState.READY]


async def test_queues_are_paused_and_resumed(database: str) -> None:
    """At once, and undone as easily."""
    async with app_with_task(database) as app, visiting(app) as client:
        await client.post("/act/queues/pause", data={"queue": "mail", "minutes": "5"})
        (queue,) = await app.queues.stats()
        assert queue.paused
        assert queue.resumes_in is not None
        await client.post("/act/queues/resume", data={"queue": "mail"})
        assert not (await app.queues.stats())[0].paused
        assert ["queue.resume", "queue.pause"] == [entry.action for entry in await app.audit.list()]


async def test_nobody_is_sent_elsewhere_afterwards(database: str) -> None:
    """`back` is a path of ours."""
    async with app_with_task(database) as app, visiting(app) as client:
        for back in ("//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"):
            done = await client.post("/act/queues/pause", data={"queue": "mail", "back": back})
            assert httpx.URL(done.headers["location"]).is_relative_url, back
            assert done.headers["location"].startswith("/?did="), back
