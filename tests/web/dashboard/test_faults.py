"""What goes wrong behind a page: which status, what it says, what the log says, and what nobody is told."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from jobqueue import App
from jobqueue.base import errors
from jobqueue.base.errors import DatabaseError, JobQueueError
from jobqueue.web.dashboard import create
from jobqueue.web.dashboard.api import table
from jobqueue.web.dashboard.reading.view import Model
from jobqueue.web.dashboard.site import Site
from tests.support.jobs.working import asked, new_app
from tests.support.patience import NEVER
from tests.support.postgres.proxy import proxied
from tests.support.waiting import wait_until
from tests.web.dashboard.knocking import knock
from tests.web.dashboard.visiting import READER, visiting

SECRET = "4711-card-number"
SOME_ID = UUID("01a22368-16f8-7699-b8f7-887088154ea1")


class Failing:
    """A page and a reader that raise whatever a test puts here."""

    error: BaseException

    async def page(self, site: Site, request: Request) -> Response:
        raise self.error

    async def read(self, view: Any) -> Model:
        """Fails."""
        raise self.error

    async def breaks_off(self, site: Site, request: Request) -> Response:
        async def pieces() -> Any:
            yield b"first"
            raise self.error

        return StreamingResponse(pieces())


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    """At /failing and /api/v1/failing."""
    failing = Failing()
    monkeypatch.setattr(create, "_PAGES", (("/failing", failing.page), ("/breaks", failing.breaks_off)))
    monkeypatch.setattr("jobqueue.web.dashboard.api.routes.ROWS", (table.Row("GET", "/failing", failing.read),))
    yield failing


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (errors.JobNotFound(SOME_ID), 404, str(SOME_ID)),
        (errors.BundleNotFound(SOME_ID), 404, str(SOME_ID)),
        (errors.UnknownLimit("smtp"), 404, "smtp"),
        (errors.InvalidOption("limit", "must be 1 to 100"), 400, "limit: must be 1 to 100"),
        (errors.BundleEnded(SOME_ID), 409, str(SOME_ID)),
        (errors.NotMigrated("jobqueue", 2), 503, "python -m jobqueue migrate up"),
        (errors.SchemaTooNew("jobqueue", "0099"), 503, "upgrade jobqueue"),
        (errors.AppClosed(), 503, "open it again"),
        (DatabaseError(f"password authentication failed for {SECRET}"), 503, "The database does not answer"),
        (HTTPException(413, "at most 8 bytes"), 413, "at most 8 bytes"),
        (HTTPException(404), 404, "There is nothing under this address."),
    ],
)
async def test_what_is_known_has_a_status_and_a_sentence(
    failing: Failing, error: Exception, status: int, sentence: str
) -> None:
    """A page in the house's look; for programs problem+json with the error's class."""
    failing.error = error
    async with visiting(App("postgresql://nowhere.invalid/none"), READER) as client:
        page, problem = await client.get("/failing"), await client.get("/api/v1/failing")
        part = await client.get("/failing?part=queues")
    assert [status] * 3 == [page.status_code, problem.status_code, part.status_code]
    assert sentence.replace("`", "") in page.text.replace("`", "")
    assert '<nav class="menu"' in page.text
    assert "<html" not in part.text
    assert "application/problem+json" == problem.headers["content-type"]
    said = problem.json()
    assert (status, "about:blank", True) == (said["status"], said["type"], sentence in said["detail"])
    assert type(error).__name__ == said.get("error", "HTTPException")
    assert SECRET not in page.text + problem.text + part.text
    assert (503 == status) == ("retry-after" in page.headers)


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), JobQueueError(SECRET), FileNotFoundError(SECRET), KeyError(SECRET)]
)
async def test_what_nobody_foresaw_is_500(failing: Failing, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """No traceback in the browser; the log has class and place. The text may quote a payload: it is nowhere."""
    failing.error = error
    async with visiting(App("postgresql://nowhere.invalid/none"), READER) as client:
        page, problem = await client.get("/failing"), await client.get("/api/v1/failing")
    name = type(failing.error).__name__
    assert [500, 500] == [page.status_code, problem.status_code]
    assert name in page.text
    assert name == problem.json()["error"]
    assert "Traceback" not in page.text
    assert SECRET not in page.text + problem.text + caplog.text
    assert f"error='{name}'" in caplog.text
    assert "place='test_faults.py:" in caplog.text


async def test_what_a_group_of_tasks_raises_is_what_one_of_them_raised(failing: Failing) -> None:
    """A reader may ask for several things at once."""
    failing.error = ExceptionGroup("", [ExceptionGroup("", [errors.JobNotFound(SOME_ID)])])
    async with visiting(App("postgresql://nowhere.invalid/none"), READER) as client:
        assert 404 == (await client.get("/failing")).status_code


async def test_an_answer_under_way_is_cut_off(failing: Failing, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing can be said any more; the log has it, and the server is not told."""
    failing.error = ValueError(SECRET)
    answer = await knock(create.create_app(App("postgresql://nowhere.invalid/none")), "/breaks")
    assert "first" == answer.text
    assert "ValueError" in caplog.text
    assert SECRET not in caplog.text


async def test_a_page_that_is_not_there() -> None:
    """404 in the house's look; what was asked for is shown nowhere."""
    async with visiting(App("postgresql://nowhere.invalid/none"), READER) as client:
        for path in ("/nowhere", "/<script>alert(1)</script>", "/overview/", "/api/v1/nowhere", "/api/v1"):
            answer = await client.get(path)
            assert 404 == answer.status_code
            assert "alert(1)" not in answer.text
            assert "location" not in answer.headers


async def test_a_part_that_is_not_there(database: str) -> None:
    """400, not an error."""
    async with new_app(database) as app, visiting(app) as client:
        for part in ("nothing", "__class__", "<b>"):
            answer = await client.get("/", params={"part": part})
            assert (400, True) == (answer.status_code, "no such part" in answer.text)
        assert 200 == (await client.get("/?part=queues")).status_code


async def test_an_installation_without_a_schema_says_what_to_do(empty_database: str) -> None:
    """503, with the command to run."""
    async with new_app(empty_database) as app, visiting(app) as client:
        page = await client.get("/")
    assert 503 == page.status_code
    assert "migrate up" in page.text


async def test_while_the_database_is_away_the_overview_shows_what_was_last(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """503 with the last look, its age and a note; a problem for programs; logged once; then all is as before."""
    monkeypatch.setattr("jobqueue.web.dashboard.entrance.faults._QUIET", NEVER)
    async with proxied(database) as proxy, new_app(proxy.dsn) as app, visiting(app) as client:
        await asked(database, "select jobqueue.defer('note', '{}', 'mail')")
        assert 200 == (await client.get("/")).status_code
        proxy.break_all()

        async def is_away() -> bool:
            return (await client.get("/")).status_code == 503

        await wait_until(is_away, "a look has failed")
        page, part = await client.get("/"), await client.get("/?part=attention")
        problem = await client.get("/api/v1/overview")
        assert [503] * 3 == [page.status_code, part.status_code, problem.status_code]
        for text in (page.text, part.text):
            assert "The database does not answer." in text
            assert "This is what was seen" in text
        assert 'href="/queues/mail"' in page.text
        assert "DatabaseError" == problem.json()["error"]
        for _ in range(2):
            assert 503 == (await client.get("/workers")).status_code
        assert 1 == caplog.text.count("dashboard.database_away")
        proxy.let_pass()

        async def is_back() -> bool:
            return (await client.get("/")).status_code == 200

        await wait_until(is_back, "a look has succeeded")
        assert "does not answer" not in (await client.get("/")).text


async def test_many_who_look_at_a_dead_database_wait_for_one_look(database: str) -> None:
    """Else each would wait for a look of its own, one after the other."""
    async with proxied(database) as proxy, new_app(proxy.dsn) as app, visiting(app) as client:
        proxy.break_all()
        before = proxy.turned_away
        first = await client.get("/")
        tried = proxy.turned_away - before
        others = await asyncio.gather(*(client.get("/") for _ in range(10)))
        assert {503} == {first.status_code, *(each.status_code for each in others)}
        assert proxy.turned_away - before <= 3 * max(tried, 1)
