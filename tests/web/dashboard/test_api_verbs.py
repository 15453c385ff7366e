"""The verbs of the JSON API, each once: what is done, by whom, and what is refused."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from jobqueue import App, Limit
from jobqueue.web import Access
from jobqueue.web.dashboard.api.table import ROWS
from tests.support.jobs.working import new_app
from tests.web.dashboard.visiting import OPERATOR, READER, visiting

NOWHERE = str(UUID(int=1))


@pytest.fixture
async def app(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    """A task with a limit and a schedule, in the queue `mail`."""
    monkeypatch.setenv("JOBQUEUE_WEBHOOK_KEY", "k" * 40)
    app = new_app(database)

    @app.task(queue="mail", limit=Limit(5, name="smtp"))
    async def note(to: str = "ada", number: int = 1) -> None: ...

    async with app, app.worker(["other"]):
        await app.schedules.put("stored", note.job(), "0 4 1 1 *")
        yield app


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> httpx.Response:
    return await client.post(f"/api/v1{path}", json=body)


async def test_each_verb_does_what_its_form_does_under_the_users_name(app: App) -> None:
    """Queues, schedules, limits, bundles, webhooks: in the order of the audit."""
    async with app.bundle("goods") as bundle:
        bundle.add(app.registry.find("note").job())  # type: ignore[union-attr]
    hook = await app.webhooks.create("https://hooks.example/", "job.dead")
    does: list[tuple[str, dict[str, Any]]] = [
        ("/queues/mail:pause", {"minutes": 5}),
        ("/queues/mail:resume", {}),
        ("/queues/mail:keep", {"completed": "7d"}),
        ("/schedules/stored:pause", {"until": "2100-01-01T00:00:00Z"}),
        ("/schedules/stored:resume", {}),
        ("/schedules/stored:trigger", {}),
        ("/schedules/stored:backfill", {"since": "2020-01-01T00:00:00Z", "until": "2020-12-01T00:00:00Z"}),
        ("/schedules/stored:delete", {}),
        ("/limits/smtp:set", {"concurrency": 2}),
        ("/limits/smtp:reset", {}),
        ("/limits/smtp:recount", {}),
        (f"/bundles/{bundle.id}:cancel", {}),
        (f"/webhooks/{hook.id}:pause", {}),
        (f"/webhooks/{hook.id}:resume", {}),
        (f"/webhooks/{hook.id}:test", {}),
        (f"/webhooks/{hook.id}:delete", {}),
    ]
    async with visiting(app) as client:
        for path, body in does:
            answer = await post(client, path, **body)
            assert 200 == answer.status_code, (path, answer.text)
    told = await app.audit.list(who=OPERATOR.user)
    assert {"web"} == {each.via for each in told}
    wanted = [path.split("/")[1].rstrip("s") + "." + path.rpartition(":")[2] for path, _ in does]
    assert wanted == [each.action for each in reversed(told)]


async def test_a_job_is_deferred_with_checked_arguments(app: App) -> None:
    """As from the task's page: what does not fit is said with the argument's name."""
    async with visiting(app) as client:
        answer = await post(client, "/tasks/note:defer", args={"to": "bob", "number": 2**62}, delay="1h", priority=3)
        assert 200 == answer.status_code, answer.text
        job = await app.jobs.get(answer.json()["id"])
        assert ({"to": "bob", "number": 2**62}, 3, "scheduled") == (dict(job.args), job.priority, job.state)
        assert "task.defer" == (await app.audit.list(limit=1))[0].action
        for body, word in (({"args": {"number": "x"}}, "number"), ({"delay": "soon"}, "delay"), ({"who": 1}, "who")):
            refused = await post(client, "/tasks/note:defer", **body)
            assert (400, True) == (refused.status_code, word in refused.json()["detail"]), refused.text
        assert 404 == (await post(client, "/tasks/nothing:defer")).status_code
    async with visiting(app, Access("eve", operate=True, queues=["bank"])) as client:
        assert 404 == (await post(client, "/tasks/note:defer")).status_code
    async with visiting(app, Access("eve", operate=True, queues=["mail"])) as client:
        assert 400 == (await post(client, "/tasks/note:defer", queue="bank")).status_code


async def test_who_may_only_look_does_nothing(app: App) -> None:
    """None of the rows that change anything, whatever is sent; nor somebody with the queues of others."""
    verbs = [row for row in ROWS if row.method == "POST" and not row.payloads]
    assert len(verbs) >= 15
    paths = [
        row.path.replace(":path", "").format(name="mail", id=NOWHERE, verb="cancel", action="cancel") for row in verbs
    ]
    async with visiting(app, READER) as client:
        for path in paths:
            assert 403 == (await post(client, path)).status_code, path
    body = {"since": "2020-01-01T00:00:00Z", "until": "2020-12-01T00:00:00Z"}
    async with visiting(app, Access("eve", operate=True, queues=["bank"])) as client:
        for path in paths:
            answer = await post(client, path.replace("mail", "stored") if "schedules" in path else path, **body)
            assert answer.status_code in (400, 403, 404), path
        assert 403 == (await post(client, "/schedules/stored:trigger")).status_code
        assert 400 == (await post(client, "/queues/mail:resume")).status_code
    assert [] == await app.audit.list()
