"""A job deferred from its task's page: from the form to the row, or back to the form with what is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from jobqueue import App, Job, Unique
from jobqueue.web import Access
from tests.support.jobs.working import asked, counted, new_app
from tests.web.dashboard.visiting import READER, visiting

MARKER = "s3cr3t-4711"


class Mail(BaseModel):
    """A model inside."""

    to: str


def shop(database: str, **options: Any) -> App:
    """An App with a task that takes some of everything."""
    app = new_app(database)

    @app.task(queue="billing", **options)
    async def charge(order: Annotated[int, Field(ge=1)], *, note: str = "none", mail: Mail | None = None) -> None: ...

    return app


async def stored(database: str) -> tuple[str, str, int, str]:
    """Arguments, queue, priority and state of the one job."""
    row = "args::text, queue, priority::text, state"
    found: list[str] = await asked(database, f"select array[{row}] from jobqueue.job")
    return found[0], found[1], int(found[2]), found[3]


async def test_what_the_form_says_is_stored_exactly(database: str) -> None:
    """Numbers of 64 bits, text as it was written, options; the audit says who, and commits with the job."""
    form = {
        "task": "charge", "arg.order": "9007199254740993", "arg.note": ' "ü" ', "json.mail": '{"to": "ada"}',
        "delay": "1h", "queue": "slow", "priority": "-3",
    }  # fmt: skip
    async with shop(database) as app, visiting(app) as client:
        done = await client.post("/act/tasks/defer", data=form)
        assert 303 == done.status_code, done.text
        args, queue, priority, state = await stored(database)
        assert {"order": 9007199254740993, "note": ' "ü" ', "mail": {"to": "ada"}} == json.loads(args)
        assert ("slow", -3, "scheduled") == (queue, priority, state)
        (entry,) = await app.audit.list()
        id = UUID(done.headers["location"].rpartition("/")[2])
        assert ("ada", "web", "task.defer", 1) == (entry.who, entry.via, entry.action, entry.changed)
        assert [entry.id] == [each.id for each in await app.audit.list(job=id)]
        assert "ü" not in json.dumps(dict(entry.what), ensure_ascii=False)


async def test_the_next_look_knows_of_it(database: str) -> None:
    """As of whatever else is done: it is not as old as the last one."""
    async with shop(database) as app, visiting(app) as client:
        before = (await client.get("/live/now")).json()
        await client.post("/act/tasks/defer", data={"task": "charge", "arg.order": "1"})
        after = (await client.get("/live/now")).json()
    assert (None, "1") == tuple(each["texts"].get("queue.billing.ready") for each in (before, after))


async def test_an_app_that_cannot_be_imported_is_not_tried_at_each_visit(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says so, and what it can; the modules may take their time, and do things."""
    (tmp_path / "broken_shop.py").write_text(
        "with open(__file__ + '.log', 'a') as log:\n    log.write('x')\nraise RuntimeError\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    async with App(database, tasks=["broken_shop"]) as app, visiting(app) as client:
        for _ in range(3):
            assert "could not be imported here (RuntimeError)" in (await client.get("/tasks")).text
    assert "x" == (tmp_path / "broken_shop.py.log").read_text()


async def test_what_is_not_given_is_left_to_the_task(database: str) -> None:
    """An empty field stores nothing: the default of the code that runs it counts."""
    async with shop(database) as app, visiting(app) as client:
        await client.post("/act/tasks/defer", data={"task": "charge", "arg.order": "1", "arg.note": ""})
        assert {"order": 1} == json.loads((await stored(database))[0])


async def test_all_arguments_may_be_written_as_one_json(database: str) -> None:
    """For what the fields cannot say."""
    async with shop(database) as app, visiting(app) as client:
        assert 'name="args"' in (await client.get("/tasks/charge?as=json")).text
        done = await client.post("/act/tasks/defer", data={"task": "charge", "args": '{"order": 5, "note": ""}'})
        assert 303 == done.status_code
        assert {"order": 5, "note": ""} == json.loads((await stored(database))[0])


WRONG: list[tuple[dict[str, str], str]] = [
    ({"arg.order": "many"}, "must be a whole number"),
    ({"arg.order": "0"}, "does not fit the annotation (greater_than_equal)"),
    ({"arg.order": "99999999999999999999"}, "beyond 64 bits"),
    ({}, "is missing"),
    ({"arg.order": "1", "json.mail": '{"to": 3}'}, "to: does not fit the annotation (string_type)"),
    ({"arg.order": "1", "json.mail": "{"}, "is not valid JSON"),
    ({"arg.order": "1", "arg.gone": "x"}, "the task has no argument &#39;gone&#39; any more"),
    ({"arg.order": "1", "delay": "soon"}, "must be a length of time"),
    ({"arg.order": "1", "delay": "1h", "at": "2030-01-01T00:00Z"}, "either a delay or a time"),
    ({"arg.order": "1", "at": "2030-01-01T00:00"}, "needs a zone"),
    ({"arg.order": "1", "priority": "99999"}, "must be a whole number from"),
    ({"arg.order": "1", "queue": "*"}, "means all queues"),
    ({"args": "[1]"}, "must be an object"),
    ({"args": '{"order": "x"}'}, "order: does not fit the annotation"),
    ({"arg.order": "1", "arg.note": "nul\0"}, "contains a NUL character"),
]
"""What is put into the form, and what stands beside the field then."""


async def test_what_is_wrong_stands_beside_its_field(database: str) -> None:
    """The form comes back as it was, nothing is stored, and nothing is in the audit."""
    async with shop(database) as app, visiting(app) as client:
        for form, told in WRONG:
            page = await client.post("/act/tasks/defer", data={"task": "charge", "arg.note": "<kept>", **form})
            assert (422, True) == (page.status_code, told in page.text), form
            if "args" not in form and "\0" not in form.get("arg.note", ""):
                assert 'value="&lt;kept&gt;"' in page.text, form
        assert (0, []) == (await counted(database), await app.audit.list())


async def test_a_key_that_is_taken_is_told(database: str) -> None:
    """The task says that a second one is an error: the page names the job that has the key."""
    async with shop(database, unique=Unique("one", on_conflict="raise")) as app, visiting(app) as client:
        first = await client.post("/act/tasks/defer", data={"task": "charge", "arg.order": "1"})
        second = await client.post("/act/tasks/defer", data={"task": "charge", "arg.order": "2"})
        assert 422 == second.status_code
        assert first.headers["location"].rpartition("/")[2] in second.text
        assert (1, 1) == (await counted(database), len(await app.audit.list()))


async def test_who_sees_some_queues_defers_to_those_only(database: str) -> None:
    """A task of another queue is as good as not there; nor does a job of a seen task get elsewhere."""
    async with shop(database) as app:
        async with visiting(app, Access("eve", operate=True, queues=["mail"])) as client:
            assert 404 == (await client.get("/tasks/charge")).status_code
            denied = await client.post("/act/tasks/defer", data={"task": "charge", "arg.order": "1", "queue": "mail"})
            assert 404 == denied.status_code
        async with visiting(app, Access("eve", operate=True, queues=["billing"])) as client:
            elsewhere = await client.post(
                "/act/tasks/defer", data={"task": "charge", "arg.order": "1", "queue": "bank"}
            )
            assert (422, True) == (elsewhere.status_code, "none of your queues" in elsewhere.text)
        async with visiting(app, READER) as client:
            assert 403 == (await client.post("/act/tasks/defer", data={"task": "charge"})).status_code
            assert 'id="defer"' not in (await client.get("/tasks/charge")).text
        assert 0 == await counted(database)


async def deferred(app: App, **args: Any) -> str:
    """The id of a job with these arguments."""
    task = app.registry.find("charge")
    assert task is not None
    return str((await task.defer(**args)).id)


async def test_a_job_is_deferred_again_with_changed_arguments(database: str) -> None:
    """The form has that job's arguments; the look at them is in the audit."""
    async with shop(database) as app, visiting(app) as client:
        id = await deferred(app, order=9007199254740993, mail=Mail(to='"<b>'))
        page = (await client.get(f"/tasks/charge?from={id}")).text
        assert 'value="9007199254740993"' in page
        assert "{&#34;to&#34;:&#34;\\&#34;&lt;b&gt;&#34;}" in page
        assert ["job.look"] == [each.action for each in await app.audit.list(job=id)]


@pytest.fixture
def strangers() -> Iterator[list[Access]]:
    """Those who may defer, but not see what is in jobs."""
    yield [Access("eve", operate=True), Access("eve", operate=True, queues=["billing"])]


async def test_who_may_not_see_payloads_gets_an_empty_form(database: str, strangers: list[Access]) -> None:
    """The marker is nowhere; nor is the look in the audit, for there was none."""
    async with shop(database) as app:
        id = await deferred(app, order=1, note=MARKER)
        for access in strangers:
            async with visiting(app, access) as client:
                for path in (f"/tasks/charge?from={id}", f"/tasks/charge?from={id}&as=json"):
                    page = await client.get(path)
                    assert (200, False) == (page.status_code, MARKER in page.text)
        assert [] == await app.audit.list()


def no_notes(job: Job, path: str, value: Any) -> Any:
    """Takes the notes out."""
    return "***" if path == "args.note" else value


async def test_what_is_redacted_has_to_be_put_in_anew(database: str) -> None:
    """What stands in its place must not become an argument by mistake."""
    async with shop(database) as app, visiting(app, redact=no_notes) as client:
        id = await deferred(app, order=9007199254740993, note=MARKER)
        for path in (f"/tasks/charge?from={id}", f"/tasks/charge?from={id}&as=json"):
            page = (await client.get(path)).text
            assert (False, False, True) == (MARKER in page, "***" in page, "9007199254740993" in page)
        assert "is hidden there: put it in anew" in (await client.get(f"/tasks/charge?from={id}")).text


async def test_a_job_of_another_task_fills_no_form(database: str) -> None:
    """Nor does one that is not there, or what is no id."""
    async with shop(database) as app:

        @app.task(queue="mail")
        async def other() -> None: ...

        id = (await other.defer()).id
        async with visiting(app) as client:
            assert 400 == (await client.get(f"/tasks/charge?from={id}")).status_code
            assert 400 == (await client.get("/tasks/charge?from=x")).status_code
            assert 404 == (await client.get(f"/tasks/charge?from={UUID(int=1)}")).status_code
