"""Each row of the JSON API over a database with something in it: what it answers, and what it keeps to itself."""

from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest

from jobqueue import App
from jobqueue.web import Access
from jobqueue.web.dashboard.api.table import ROWS
from tests.support.jobs.working import asked, new_app
from tests.web.dashboard.visiting import OPERATOR, READER, visiting

SECRET = "4711-card-number"
LISTS = [row.path for row in ROWS if row.method == "GET" and "{" not in row.path]
SINGLE = [row.path.replace(":path", "") for row in ROWS if row.method == "GET" and "{" in row.path]
NOWHERE = UUID(int=1)


@pytest.fixture
async def app(database: str) -> AsyncIterator[App]:
    """Three jobs in two queues, with a secret in each."""
    async with new_app(database) as app:
        for queue in ("mail", "mail", "media"):
            await asked(database, "select jobqueue.defer('charge', $1, $2)", f'{{"card": "{SECRET}"}}', queue)
        yield app


async def jobs_of(client: httpx.AsyncClient, query: str = "") -> list[dict[str, str]]:
    found: list[dict[str, str]] = (await client.get(f"/api/v1/jobs?{query}")).json()["jobs"]
    return found


async def test_each_row_answers_and_keeps_payloads_to_itself(app: App) -> None:
    """Lists are there for who may look, single things that are not there are 404; no secret is in any of them."""
    async with visiting(app, READER) as client:
        for path in LISTS:
            answer = await client.get(f"/api/v1{path}")
            assert (200, "application/json") == (answer.status_code, answer.headers["content-type"]), path
            assert SECRET not in answer.text
        for path in SINGLE:
            answer = await client.get(f"/api/v1{path.format(id=NOWHERE, name='nothing', fingerprint='0' * 16)}")
            assert 404 == answer.status_code or (200, "/queues/{name}") == (answer.status_code, path), answer.text
        (job, *_) = await jobs_of(client)
        answer = await client.get(f"/api/v1/jobs/{job['id']}")
        assert (200, "charge", False) == (answer.status_code, answer.json()["job"]["task"], SECRET in answer.text)
        assert 400 == (await client.get("/api/v1/jobs/no-id")).status_code


async def test_jobs_are_listed_by_filters_page_by_page(app: App) -> None:
    """As in the URL of the page; `next` leads on."""
    async with visiting(app, READER) as client:
        assert 2 == len(await jobs_of(client, "queue=mail&state=ready&state=running"))
        first = (await client.get("/api/v1/jobs?limit=2")).json()
        assert [2, 1] == [len(first["jobs"]), len(await jobs_of(client, f"before={first['next']}"))]
        for query, status in (("state=dad", 400), ("args=x", 400), ("limit=0", 400), ("args=card=4711", 403)):
            assert status == (await client.get(f"/api/v1/jobs?{query}")).status_code, query


async def test_foreign_queues_are_not_there(app: App) -> None:
    """Who sees one queue only lists and finds its jobs alone, and changes no others."""
    async with visiting(app, OPERATOR) as client:
        (foreign,) = await jobs_of(client, "queue=media")
    async with visiting(app, Access("eve", operate=True, payloads=True, queues=["mail"])) as client:
        assert {"mail"} == {each["queue"] for each in await jobs_of(client)}
        assert 404 == (await client.get(f"/api/v1/jobs/{foreign['id']}")).status_code
        assert 404 == (await client.get("/api/v1/queues/media")).status_code
        assert 404 == (await client.post(f"/api/v1/jobs/{foreign['id']}/payload")).status_code
        for body in ({"ids": [foreign["id"]]}, {"filter": {"queue": "media"}}, {"filter": {"task": "charge"}}):
            assert (await client.post("/api/v1/jobs:cancel", json=body)).status_code in (400, 404), body


async def test_a_payload_is_its_stored_text_and_each_look_is_in_the_audit(app: App) -> None:
    """For those who may see it, by a POST, without `operate`."""
    seer = Access("iris", payloads=True)
    async with visiting(app, seer) as client:
        (job, *_) = await jobs_of(client)
        answer = await client.post(f"/api/v1/jobs/{job['id']}/payload?names=args")
        assert 200 == answer.status_code, answer.text
        assert SECRET in answer.json()["parts"]["args"]
        assert "iris" in (await client.get(f"/api/v1/audit?job={job['id']}")).text
    async with visiting(app, READER) as client:
        assert 403 == (await client.post(f"/api/v1/jobs/{job['id']}/payload")).status_code


async def test_jobs_are_changed_by_id_and_by_filter(app: App) -> None:
    """A dry run says how many it would be; then it is done, with what was refused and why."""
    async with visiting(app, OPERATOR) as client:
        by_filter = {"filter": {"queue": "mail", "state": ["ready"]}}
        would = (await client.post("/api/v1/jobs:cancel", json=by_filter | {"dry_run": True})).json()
        assert (True, 2, 2) == (would["dry_run"], would["changed"], len(would["first"]))
        assert 2 == len(await jobs_of(client, "queue=mail&state=ready"))
        done = (await client.post("/api/v1/jobs:cancel", json=by_filter)).json()
        assert (False, 2, {}) == (done["dry_run"], done["changed"], done["refused"])
        again = (await client.post("/api/v1/jobs:cancel", json={"ids": done["first"]})).json()
        assert (0, 2) == (again["changed"], sum(again["refused"].values()))
        (moved,) = await jobs_of(client, "queue=media")
        assert (
            1 == (await client.post("/api/v1/jobs:move", json={"ids": [moved["id"]], "to": "slow"})).json()["changed"]
        )
        assert [moved["id"]] == [each["id"] for each in await jobs_of(client, "queue=slow")]


SENSELESS: list[tuple[str, object, str]] = [
    ("explode", {"ids": [str(NOWHERE)]}, "action: "),
    ("cancel", {}, "ids: give ids, or else a filter"),
    ("cancel", {"ids": [str(NOWHERE)], "filter": {"queue": "mail"}}, "ids: give ids, or else a filter"),
    ("cancel", {"filter": {}}, "id: no job is named"),
    ("cancel", {"ids": [str(NOWHERE)] * 1_001}, "ids: "),
    ("cancel", {"ids": ["x"]}, "ids.0: "),
    ("move", {"ids": [str(NOWHERE)]}, "to: "),
    ("reschedule", {"ids": [str(NOWHERE)], "at": "2026-01-01T00:00:00"}, "at: "),
]


async def test_what_cannot_be_done_names_the_field(app: App) -> None:
    """400, before anything is changed."""
    async with visiting(app, OPERATOR) as client:
        for action, body, detail in SENSELESS:
            answer = await client.post(f"/api/v1/jobs:{action}", json=body)
            assert 400 == answer.status_code, (action, detail)
            assert answer.json()["detail"].startswith(detail), answer.text
        assert {"ready"} == {each["state"] for each in await jobs_of(client)}
