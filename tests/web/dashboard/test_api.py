"""The JSON face: its description, what it takes, and how it sends what it has."""

from typing import Annotated, Any

import orjson
import pytest
from pydantic import Field

from jobqueue import App
from jobqueue.web.dashboard.api.openapi import openapi
from jobqueue.web.dashboard.api.parameters import parameters
from jobqueue.web.dashboard.api.table import ROWS, Row
from jobqueue.web.dashboard.reading.view import Big, Model, View
from tests.support.jobs.working import asked, new_app
from tests.web.dashboard.openapi import SNAPSHOT
from tests.web.dashboard.visiting import OPERATOR, READER, visiting

APP = App("postgresql://nowhere.invalid/none")


def test_the_description_is_the_one_in_the_repository() -> None:
    """Whoever changes it sees what changes for programs: `make openapi` writes it."""
    assert SNAPSHOT.read_bytes() == openapi(), "run: python -m tests.web.dashboard.openapi"


def test_every_reference_of_it_leads_somewhere() -> None:
    """And every operation has a name of its own, and a sentence."""
    document = orjson.loads(openapi())
    assert "3.1.0" == document["openapi"]
    names: list[str] = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            assert operation["summary"].endswith("."), path
    assert len(set(names)) == len(names) == len(ROWS)
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [each for part in value.values() for each in references(part)]
    return [each for part in value for each in references(part)] if isinstance(value, list) else []


async def test_it_says_itself_what_it_can() -> None:
    """To those who may look."""
    async with visiting(APP, READER) as client:
        answer = await client.get("/api/v1/openapi.json")
    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])
    assert orjson.loads(openapi()) == answer.json()


async def test_the_overview_is_what_the_page_shows(database: str) -> None:
    """The same model, within the same queues."""
    await asked(database, "select jobqueue.defer('note', '{}', 'mail'), jobqueue.defer('note', '{}', 'media')")
    async with new_app(database) as app:
        async with visiting(app, OPERATOR) as client:
            all_of_it = (await client.get("/api/v1/overview")).json()
        assert ["mail", "media"] == sorted(each["queue"] for each in all_of_it["queues"])


class Found(Model):
    """What a reader of the tests gives."""

    said: str
    number: Big = 2**60
    args: str | None = '{"order": 9007199254740993}'


class Wanted(Model):
    """The body of a verb."""

    ids: list[int]
    dry_run: bool = False


async def read_one(
    view: View, name: str, limit: Annotated[int, Field(ge=1, le=100)] = 50, states: list[str] | None = None
) -> Found:
    """One thing."""
    return Found(said=f"{view.access.user} {name} {limit} {states}")


async def change(view: View, name: str, wanted: Wanted) -> Found:
    """Change it."""
    return Found(said=f"{name} {wanted.ids} {wanted.dry_run}")


OWN_ROWS = (  # in place of the real ones
    Row("GET", "/things/{name:path}", read_one),
    Row("POST", "/things/{name}:change", change),
    Row("GET", "/secrets/{name}", read_one, payloads=True),
)


own_rows = pytest.mark.usefixtures("answered")


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of this file."""
    monkeypatch.setattr("jobqueue.web.dashboard.api.routes.ROWS", OWN_ROWS)


@own_rows
async def test_a_reader_takes_path_and_query() -> None:
    """By the types of its signature; numbers of 64 bits are text, payloads their stored text."""
    async with visiting(APP, READER) as client:
        answer = await client.get("/api/v1/things/a%2Fb?limit=7&states=dead&states=ready")
        said = "bob a/b 7 ['dead', 'ready']"
        assert {"said": said, "number": str(2**60), "args": '{"order": 9007199254740993}'} == answer.json()
        assert "bob x 50 None" == (await client.get("/api/v1/things/x")).json()["said"]


@own_rows
@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=101", "limit: Input should be less than or equal to 100"),
        ("limit=many", "limit: "),
        ("limt=1", "limt: there is no such field"),
        ("name=y", "name: is in the path already"),
        ("limit=", "limit: "),
    ],
)
async def test_what_cannot_be_asked_is_one_clear_problem(query: str, detail: str) -> None:
    """400, with the name of the field, and without what was sent."""
    async with visiting(APP, READER) as client:
        answer = await client.get(f"/api/v1/things/x?{query}")
    said = answer.json()
    assert (400, "InvalidOption") == (answer.status_code, said["error"])
    assert said["detail"].startswith(detail)
    assert "many" not in said["detail"]


@own_rows
async def test_a_verb_takes_a_body() -> None:
    """JSON, of whoever may operate."""
    async with visiting(APP, OPERATOR) as client:
        path = "/api/v1/things/x:change"
        assert "x [1, 2] False" == (await client.post(path, json={"ids": [1, 2]})).json()["said"]
        for body, detail in ((b'{"ids": ["secret"]}', "ids.0: "), (b"{", "body: "), (b"", "body: "), (b"[]", "body: ")):
            answer = await client.post(path, content=body, headers={"content-type": "application/json"})
            assert 400 == answer.status_code
            assert answer.json()["detail"].startswith(detail)
            assert "secret" not in answer.text
        assert 415 == (await client.post(path, data={"ids": "1"})).status_code
        large = await client.post(path, content=b" " * (4 << 20) + b"{}", headers={"content-type": "application/json"})
        assert 413 == large.status_code
    async with visiting(APP, READER) as client:
        assert 403 == (await client.post(path, json={"ids": [1]})).status_code


@own_rows
async def test_a_reader_of_payloads_is_for_those_who_may_see_them() -> None:
    """Others get 403, before it is asked."""
    async with visiting(APP, READER) as client:
        answer = await client.get("/api/v1/secrets/x")
        assert (403, "you may not see payloads") == (answer.status_code, answer.json()["detail"])
    async with visiting(APP, OPERATOR) as client:
        assert 200 == (await client.get("/api/v1/secrets/x")).status_code


def test_a_row_that_does_not_fit_its_reader_is_found_at_once() -> None:
    """Not by the first request."""
    with pytest.raises(TypeError, match="does not take"):
        parameters(Row("GET", "/things/{id}", read_one))


async def test_odd_moments_and_names_are_refused(database: str) -> None:
    """Neither a fault of ours, nor of the database."""
    app = new_app(database)

    @app.task
    async def note() -> None: ...

    async with app, visiting(app) as client:
        await app.schedules.put("stored", note.job(), "0 4 1 1 *")
        for path in (
            "/schedules/stored?since=2026-01-01T00:00:00",
            "/schedules/stored?since=2020-01-01T00:00:00Z&until=2026-01-01",
            "/schedules/stored?since=0001-01-01T00:00:00Z",
            "/schedules?after=%00",
            "/limits/%00",
        ):
            assert 400 == (await client.get(f"/api/v1{path}")).status_code, path
