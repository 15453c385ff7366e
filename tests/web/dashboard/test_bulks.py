"""Actions in the background: when they are begun, what is shown of them, who may see and stop them."""

from collections.abc import AsyncIterator

import pytest

from jobqueue import App
from jobqueue.base.job import JobState
from jobqueue.web import Access
from jobqueue.web.dashboard.acting import jobs
from tests.support.jobs.working import asked, new_app
from tests.web.dashboard.visiting import READER, visiting

SECRET = "geheim-4711"


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    """Thirty jobs in the queue `mail`."""
    await asked(database, "select count(jobqueue.defer('note', '{}', 'mail')) from generate_series(1, 30)")
    async with new_app(database) as app:
        yield app


async def test_an_act_in_the_background_is_a_bulk_action_that_can_be_watched_and_stopped(app: App) -> None:
    """With the user's name, under the filter that was agreed to; the list and the audit lead to it."""
    async with visiting(app) as client:
        done = await client.post("/act/jobs/cancel", data={"queue": "mail", "background": "1", "count": "30"})
        (bulk,) = await app.bulks.list()
        assert (303, f"/bulk/{bulk.id}") == (done.status_code, done.headers["location"])
        assert ("ada", "web", "cancel", {"queue": "mail"}) == (bulk.who, bulk.via, bulk.action, bulk.filter)
        page = (await client.get(f"/bulk/{bulk.id}")).text
        assert "waits for a worker" in page
        assert 'data-part="bulk" data-renew="always"' in page
        for path in ("/bulk", "/audit"):
            assert f"/bulk/{bulk.id}" in (await client.get(path)).text
        async with app.worker(["other"]):
            await app.bulks.wait(bulk.id)
        page = (await client.get(f"/bulk/{bulk.id}")).text
        assert "finished" in page
        assert ">30<" in page
        assert "data-renew" not in page
        assert 30 == (await app.jobs.counts()).by_state[JobState.CANCELLED]


async def test_it_is_stopped_by_a_button(app: App) -> None:
    """And by the API; what was done stands."""
    async with visiting(app) as client:
        for stop in ("/act/bulk/cancel", "/api/v1/bulks/{}:cancel"):
            bulk = await app.jobs.bulk("delete", queue="mail")
            assert (await client.post(stop.format(bulk.id), data={"id": str(bulk.id)})).status_code in (200, 303)
            assert "cancelled" == (await app.bulks.get(bulk.id)).state
        assert 404 == (await client.get("/bulk/01890000-0000-7000-8000-000000000000")).status_code


async def test_more_than_can_be_done_at_once_goes_on_in_the_background(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if nobody has asked for it; the page says why, and nothing was changed here."""
    monkeypatch.setattr(jobs, "AT_ONCE", 20)
    async with visiting(app) as client:
        assert 'name="background"' in (await client.get("/preview/jobs/cancel?queue=mail")).text
        done = await client.post("/act/jobs/cancel", data={"queue": "mail"})
        assert done.headers["location"].endswith("?more=1")
        assert "More jobs match" in (await client.get(done.headers["location"])).text
        told = (await client.post("/api/v1/jobs:cancel", json={"filter": {"queue": "mail"}})).json()
        assert (True, 0) == (told["more"], told["changed"])
        assert told["bulk"] in [str(each.id) for each in await app.bulks.list()]
    assert 30 == (await app.jobs.counts()).by_state[JobState.READY]


async def test_many_more_than_were_agreed_to_are_asked_about_again(app: App, database: str) -> None:
    """Ten more, or a tenth, are no surprise; more than that change nothing."""
    raised = {"queue": "mail", "priority": "1"}
    async with visiting(app) as client:
        again = await client.post("/act/jobs/cancel", data={"queue": "mail", "count": "19"})
        assert 409 == again.status_code
        assert "Many more jobs match by now" in again.text
        assert 'name="count" value="30"' in again.text
        body = {"filter": {"queue": "mail"}, "agreed": 19}
        assert 409 == (await client.post("/api/v1/jobs:cancel", json=body)).status_code
        assert 30 == (await app.jobs.counts()).by_state[JobState.READY]
        assert 303 == (await client.post("/act/jobs/priority", data=raised | {"count": "20"})).status_code
        await asked(database, "select count(jobqueue.defer('note', '{}', 'mail')) from generate_series(1, 200)")
        assert 409 == (await client.post("/act/jobs/cancel", data={"queue": "mail", "count": "209"})).status_code
        assert 303 == (await client.post("/act/jobs/cancel", data={"queue": "mail", "count": "210"})).status_code
    assert 230 == (await app.jobs.counts()).by_state[JobState.CANCELLED]


async def test_what_may_be_a_payload_in_a_filter_is_hidden(app: App) -> None:
    """Its name is shown, so that one knows that there is more to it."""
    bulk = await app.jobs.bulk("delete", queue="mail", args={"to": SECRET}, text=SECRET, reason=SECRET)
    paths = ("/bulk", f"/bulk/{bulk.id}", "/api/v1/bulks", f"/api/v1/bulks/{bulk.id}")
    for access, shown in ((READER, False), (Access("iris", payloads=True), True)):
        async with visiting(app, access) as client:
            for path in paths:
                page = (await client.get(path)).text
                assert "mail" in page
                assert "args" in page
                assert shown is (SECRET in page), path
    async with visiting(app, redact=lambda job, path, value: value) as client:  # it goes by the job, and there is none
        assert SECRET not in (await client.get(f"/bulk/{bulk.id}")).text


async def test_who_sees_some_queues_sees_bulk_actions_of_these(app: App) -> None:
    """The others can neither be seen nor stopped; nor can jobs be moved to where one does not see them."""
    theirs = await app.jobs.bulk("delete", queue="bank")
    whole = await app.jobs.bulk("delete", state="dead")
    away = await app.jobs.bulk("move", queue="mail", to="bank")
    mine = await app.jobs.bulk("cancel", queue="mail")
    async with visiting(app, Access("eve", operate=True, queues=["mail"])) as client:
        listed = (await client.get("/bulk")).text
        assert str(mine.id) in listed
        for bulk in (theirs, whole, away):
            assert str(bulk.id) not in listed
            assert 404 == (await client.get(f"/api/v1/bulks/{bulk.id}")).status_code
            assert 404 == (await client.post(f"/api/v1/bulks/{bulk.id}:cancel")).status_code
            assert not (await app.bulks.get(bulk.id)).finished
        assert 400 == (await client.post("/act/jobs/move", data={"queue": "mail", "to": "bank"})).status_code
        assert 400 == (await client.post("/act/jobs/cancel", data={"state": "ready", "background": "1"})).status_code


async def test_what_plain_sql_has_written_ends_no_page(app: App, database: str) -> None:
    """Whatever stands in the table."""
    bulk = await app.jobs.bulk("delete", queue="mail")
    await asked(
        database,
        "update jobqueue.bulk set action = 'explode', filter = $2::text::json, target = $3::text::json,"
        " refused = $4::text::json where id = $1 returning 1",
        bulk.id,
        '{"queue": 7, "<b>": [1]}',
        '{"to": [1]}',
        '{"odd": "x", "busy": 2}',
    )
    for access in (READER, Access("eve", queues=["mail"])):
        async with visiting(app, access) as client:
            assert 200 == (await client.get("/bulk")).status_code
            assert (await client.get(f"/bulk/{bulk.id}")).status_code in (200, 404)
