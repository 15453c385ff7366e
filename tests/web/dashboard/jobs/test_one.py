"""The page of one job: in each state, with much and with odd things in it, and what it hides from whom."""

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobqueue.base.looking.search import fingerprint_of
from jobqueue.web import Access
from tests.support.jobs.searched import store
from tests.support.jobs.working import asked, new_app
from tests.web.dashboard.visiting import OPERATOR, READER, visiting

NAME = """<script>"'&</script>"""
MARKER = "hunter2-secret"
TRACE = f'Traceback (most recent call last):\n  File "/srv/{MARKER}.py", line 88, in charge\nE: {MARKER}'
PLACE = "shop/billing.py:88 charge"


def failed(number: int = 1, **own: Any) -> dict[str, Any]:
    """An error as it is stored."""
    plain = {"class": f"shop.{NAME}", "message": f"{MARKER} {NAME}", "traceback": f"{TRACE} {NAME}", "attempt": number}
    return plain | {"at": f"2026-01-01T00:00:{number % 60:02}+00:00", "worker": str(UUID(int=1))} | own


HOLDS = {
    "args": json.dumps({"to": MARKER, "odd": NAME}),
    "errors": json.dumps([failed(1), failed(2, data={"card": MARKER}, phase=NAME, place=1, code_place=PLACE)]),
    "progress": json.dumps({"fraction": 0.42, "message": MARKER, "data": MARKER}),
    "key": f"task\n{NAME}",
    "queue": NAME,
    "task": NAME,
}
ODD: dict[str, Mapping[str, Any]] = {
    "null errors": {"errors": "null"},
    "no errors": {"errors": '[null, 5, {}, [], {"at": "2026-01-01"}, {"at": "never"}, {"worker": {}, "phase": []}]'},
    "no history": {"errors": '{"a": 1}'},
    "huge numbers": {"errors": '[{"attempt": 1e400}]', "progress": '{"fraction": ' + "9" * 5_000 + "}"},
    "progress list": {"progress": "[1]"},
    "progress words": {"progress": '{"fraction": "half", "message": {"a": 1}}'},
    "progress infinite": {"progress": '{"fraction": 1e400, "message": 5}'},
    "long word": {"errors": json.dumps([failed(message="x" * 8_192)])},
    "deep": {"args": '{"a": ' + "[" * 900 + "]" * 900 + "}", "progress": "[" * 900 + "]" * 900},
    "half": {"args": '{"a": "\\ud800\\u0000"}'},
    "untimed": {"errors": json.dumps([failed(attempt=-5, at=None, began="9999-12-31T23:59:59+00:00")])},
}
LATER = ("null errors", "no history")
"""Which the schema allows of those only that have ended."""


async def test_all_that_is_to_be_told_stands_there(database: str) -> None:
    """Of one that is dead: why, its attempts with their tracebacks, facts; but not what is in it."""
    (id,) = store(database, {"job": HOLDS}, finished=True).values()
    async with new_app(database) as app, visiting(app) as client:
        page = await client.get(f"/jobs/{id}")
    text = page.text
    assert 200 == page.status_code
    assert "its attempts are used up" in text
    assert MARKER in text
    assert 2 == text.count('<details class="attempt"')
    assert "<progress" not in text, "it has ended"
    assert '"to"' not in text.replace("&#34;", '"')
    assert "<script>" not in text.split("<main")[1]


async def test_who_may_not_see_payloads_sees_none(database: str) -> None:
    """Class and place of an error are shown; message, traceback, progress and all the rest are not, nor on demand."""
    (id,) = store(database, {"job": {**HOLDS, "state": "cancelled", "reason": MARKER}}, finished=True).values()
    async with new_app(database) as app, visiting(app, READER) as client:
        pages = [await client.get(f"/jobs/{id}"), await client.get(f"/jobs/{id}?part=attempts")]
        pages += [
            await client.get(f"/jobs?state=cancelled{more}") for more in ("", f"&reason={MARKER}", f"&q={MARKER}")
        ]
        look = await client.post(f"/jobs/{id}/payload", data={"show": "args"})
    assert [200, 200, 200, 403, 403, 403] == [page.status_code for page in (*pages, look)]
    assert "you may not see what is in jobs" in pages[0].text
    assert PLACE in pages[0].text
    assert f'href="/errors/{fingerprint_of(NAME, f"shop.{NAME}", PLACE)}"' in pages[0].text
    assert not [page.url for page in pages[:3] if MARKER in page.text]
    assert MARKER not in look.text
    assert 0 == await asked(database, "select count(*) from jobqueue.audit")


async def test_a_look_at_what_is_in_it_is_in_the_audit(database: str) -> None:
    """Shown as markup, after the site has taken out what it hides; and before it is shown, it is written down."""
    args = '{"to": "<b>ada", "number": 123456789012345678901234567890, "card": "hunter2-secret"}'
    (id,) = store(database, {"job": {"args": args}}, finished=True).values()

    def redact(job: object, path: str, value: Any) -> Any:
        return "***" if path == "args.card" else value

    watcher = Access("eve", payloads=True)  # who may look, and change nothing
    async with new_app(database) as app, visiting(app, watcher, redact=redact) as client:
        page = await client.post(f"/jobs/{id}/payload", data={"show": ["args", "result"]})
        part = await client.post(f"/jobs/{id}/payload?part=payload", data={"show": "args"})
        odd = await client.post(f"/jobs/{id}/payload", data={"show": "fence"})
        foreign = await client.post(f"/jobs/{id}/payload", data={"show": "args"}, headers={"sec-fetch-site": "none"})
        later = await client.get(f"/jobs/{id}/payload")
    assert [200, 200, 400, 403, 303] == [each.status_code for each in (page, part, odd, foreign, later)]
    assert "123456789012345678901234567890" in page.text
    assert "&lt;b&gt;ada" in page.text
    assert "***" in page.text
    assert MARKER not in page.text + part.text
    assert "<main" not in part.text
    rows = await asked(
        database, "select array_agg(who || action || (what ->> 'parts') order by id) from jobqueue.audit"
    )
    assert ["evejob.lookargs, result", "evejob.lookargs"] == rows


async def test_a_message_that_is_hidden_is_nowhere_else(database: str) -> None:
    """The last lines of the traceback have it, too; what runs says on other pages how far it is."""

    def redact(job: object, path: str, value: Any) -> Any:
        return "***" if path.endswith(".message") else value

    (id,) = store(database, {"job": HOLDS}, finished=True).values()
    async with new_app(database) as app, visiting(app, redact=redact) as client:
        page = await client.get(f"/jobs/{id}")
    assert (200, True, False) == (page.status_code, "***" in page.text, MARKER in page.text)


async def test_what_it_waits_for_in_foreign_queues_is_not_named(database: str) -> None:
    """Who sees all queues finds the job that comes before; who does not is told that it waits."""
    app = new_app(database)

    @app.task(queue="mail")
    async def note() -> None: ...

    async with app:
        async with app.bundle("goods") as bundle:
            first = bundle.add(note.options(queue="bank").job())
            second = bundle.add(note.job(), after=[first])
        for access, named in ((OPERATOR, True), (Access("eve", queues=["mail"]), False)):
            async with visiting(app, access) as client:
                for path in (f"/jobs/{second.id}", f"/api/v1/jobs/{second.id}"):
                    page = (await client.get(path)).text
                    assert (True, named) == ("waits for" in page, str(first.id) in page), path


async def test_what_is_in_it_is_shown_in_pieces(database: str) -> None:
    """A mebibyte of arguments: 64 KiB, and the rest on demand."""
    (id,) = store(database, {"job": {"args": json.dumps(["x" * 100] * 10_400)}}, finished=True).values()
    async with new_app(database) as app, visiting(app) as client:
        page, first = await client.get(f"/jobs/{id}"), await client.post(f"/jobs/{id}/payload", data={"show": "args"})
        whole = await client.post(f"/jobs/{id}/payload", data={"show": "args", "whole": "args"})
    assert len(page.text) < 30_000
    assert len(first.text) < 150_000
    assert "Show all" in first.text
    assert 10_400 == whole.text.count("x" * 100)
    assert "Show all" not in whole.text


@pytest.mark.parametrize("finished", [False, True])
async def test_no_stored_value_ends_the_page(database: str, finished: bool) -> None:
    """Plain SQL may have written anything."""
    ids = store(
        database, ODD if finished else {name: ODD[name] for name in ODD if name not in LATER}, finished=finished
    )
    async with new_app(database) as app, visiting(app) as client:
        seen = {name: await client.get(f"/jobs/{id}") for name, id in ids.items()}
        data = {"show": ["args", "result", "progress", "data"]}
        looks = {name: await client.post(f"/jobs/{id}/payload", data=data) for name, id in ids.items()}
        listed = await client.get("/jobs")
    assert dict.fromkeys(ids, (200, 200)) == {name: (seen[name].status_code, looks[name].status_code) for name in ids}
    assert 200 == listed.status_code


async def test_a_job_that_was_deleted_or_is_in_a_foreign_queue_is_not_there(database: str) -> None:
    """And nothing tells the two from each other."""
    (id,) = store(database, {"job": {"queue": "mail"}}, finished=True).values()
    async with new_app(database) as app:
        async with visiting(app, Access("ann", payloads=True, queues={"other"})) as client:
            foreign = await client.get(f"/jobs/{id}")
            look = await client.post(f"/jobs/{id}/payload", data={"show": "args"})
            gone = await client.get(f"/jobs/{uuid4()}")
        async with visiting(app) as client:
            wrong = await client.get("/jobs/5")
    assert [404, 404, 404, 400] == [each.status_code for each in (foreign, look, gone, wrong)]
    assert 0 == await asked(database, "select count(*) from jobqueue.audit")


async def test_who_sees_some_queues_is_not_told_of_jobs_in_others(database: str) -> None:
    """Somebody has deleted none of them, but changed many at once: how many is for those who see all queues."""
    mine, *_ = ids = list(
        store(database, {name: {"queue": name} for name in ("mail", "bank", "post")}, finished=False).values()
    )
    async with new_app(database) as app:
        await app.jobs.cancel(*ids, by="ada")
        async with visiting(app) as client:
            assert "with 2 others" in (await client.get(f"/jobs/{mine}")).text
        async with visiting(app, Access("eve", queues=["mail"])) as client:
            page, seen = (await client.get(f"/jobs/{mine}")).text, (await client.get(f"/api/v1/jobs/{mine}")).json()
    assert "<b>ada</b>" in page
    assert "others" not in page
    assert (None, None) == (seen["did"][0]["matched"], seen["did"][0]["changed"])


async def test_the_tracebacks_of_many_attempts_are_cut(database: str) -> None:
    """The latest has 2 000 lines, those before it 200 each: 25 whole ones would hold up all others."""
    errors = [failed(number, traceback="line\n" * 3_000) for number in range(1, 26)]
    (id,) = store(database, {"job": {"errors": json.dumps(errors)}}, finished=True).values()
    async with new_app(database) as app, visiting(app) as client:
        page = await client.get(f"/jobs/{id}")
    assert 2_000 + 24 * 200 == page.text.count(">line\n")


async def test_many_failures_are_few_rows(database: str) -> None:
    """A hundred attempts: the first five and the latest are remembered, and the page says so by their numbers."""
    errors = [failed(number) for number in (*range(1, 6), *range(81, 101))]
    (id,) = store(database, {"job": {"errors": json.dumps(errors)}}, finished=True).values()
    async with new_app(database) as app, visiting(app) as client:
        page = await client.get(f"/jobs/{id}")
    numbers = re.findall(r'class="attempt".*\n *<summary><span class="badge \w+">(\d+)<', page.text)
    assert [str(number) for number in (*range(100, 80, -1), *range(5, 0, -1))] == numbers
    assert len(page.content) < 120_000


STATES = {
    "ready": ("waits", "Run now", "no worker is alive"),
    "scheduled": ("waits", "Run now", "no worker is alive"),
    "completed": ("completed", "Retry", "ended"),
    "cancelled": ("its task cancelled it", "Retry", "ended"),
    "dead": ("its attempts are used up", "Retry", "ended"),
}


async def test_each_state_says_how_it_stands(database: str) -> None:
    """And what can be done with it; nothing for who may only look."""
    waiting = store(database, {state: {"state": state} for state in ("ready", "scheduled")}, finished=False)
    ended = store(database, {state: {"state": state} for state in ("completed", "cancelled", "dead")}, finished=True)
    async with new_app(database) as app, visiting(app) as client, visiting(app, READER) as reader:
        for state, id in {**waiting, **ended}.items():
            page = (await client.get(f"/jobs/{id}")).text
            assert [] == [words for words in STATES[state] if words not in page]
            assert "Delete…" in page
            assert "/act/" not in (await reader.get(f"/jobs/{id}")).text
        assert "Cancel…" in (await client.get(f"/jobs/{waiting['ready']}")).text
        for part in ("stands", "timeline", "attempts", "facts", "events", "did", "payload"):
            assert 200 == (await client.get(f"/jobs/{ended['dead']}?part={part}")).status_code


async def test_a_running_job_is_watched(database: str) -> None:
    """What changes is read again: how it stands, its timeline, facts; and it cannot be deleted."""
    columns = "('running', 1, 1, now() - interval '5 s', now() + interval '1 h', $1, $2::json)"
    (id,) = store(database, {"job": {}}, finished=False).values()
    await asked(
        database,
        "update jobqueue.job set (state, fence, attempt, claimed_at, lease_until, worker_id, progress) = "
        f"{columns} where id = $3 returning 1",
        uuid4(),
        '{"fraction": 0.42, "message": "page <i>42"}',
        id,
    )
    async with new_app(database) as app, visiting(app, OPERATOR) as client:
        page = (await client.get(f"/jobs/{id}")).text
        assert "page &lt;i&gt;42" in (await client.get("/")).text
    async with new_app(database) as app, visiting(app, redact=lambda job, path, value: value) as client:
        assert "page &lt;i&gt;42" not in (await client.get("/")).text  # there is no job to give to `redact`
    assert "its worker gives no sign of life" in page
    assert "42 % · page &lt;i&gt;42" in page
    assert 'data-part="stands" data-renew="always"' in page
    assert "Delete…" not in page
    assert 'class="runs"' in page
