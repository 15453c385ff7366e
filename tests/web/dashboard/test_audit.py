"""The audit as a page."""

from jobqueue.base.acting.audit import By
from jobqueue.web import Access
from tests.support.jobs.working import asked, new_app
from tests.web.dashboard.visiting import visiting


async def test_it_says_who_did_what(database: str) -> None:
    """The newest first, by who and action; odd names escaped."""
    odd = "<b>eve</b>"
    async with new_app(database) as app, visiting(app) as client:
        assert "Nobody has changed anything" in (await client.get("/audit")).text
        await app.queues.pause("mail", by=By(odd, "web"))
        await app.queues.resume("mail", by="ada")
        page = (await client.get("/audit")).text
        assert page.index("queue.resume") < page.index("queue.pause")
        assert odd not in page
        assert "queue.pause" not in (await client.get("/audit", params={"who": "ada"})).text.partition("<tbody")[2]
        assert "queue.pause" in (await client.get("/audit", params={"who": odd})).text


async def test_who_sees_some_queues_sees_what_he_did(database: str) -> None:
    """What others did may be about other queues."""
    async with new_app(database) as app, visiting(app, Access("eve", queues=["mail"])) as client:
        await app.queues.pause("bank", by="ada")
        await app.queues.pause("mail", by="eve")
        page = (await client.get("/audit?who=ada")).text
    assert "bank" not in page
    assert "mail" in page


async def test_what_plain_sql_has_written_ends_no_page(database: str) -> None:
    """Whatever stands in the table: in the list, for programs, beside the job, and as what was just done."""
    odd = ('{"ids": 5}', '{"ids": [5, null]}', '{"ids": {"a": 1}}', '{"bulk": 5}', '{"filter": [1]}', "[]")
    async with new_app(database) as app, visiting(app) as client:
        for what in odd:
            await asked(
                database,
                "insert into jobqueue.audit (who, action, what, refused)"
                " values ('ada', 'x', $1::text::json, $2::text::json) returning id",
                what,
                '{"busy": "x", "locked": 1.5, "too_late": 2}',
            )
        (entry, *_) = await app.audit.list()
        assert {"too_late": 2} == entry.refused
        for path in ("/audit", "/api/v1/audit", f"/?did={entry.id}"):
            assert 200 == (await client.get(path)).status_code, path
