"""The list of jobs: filters in the URL, the search box, how far it has looked, and who sees what."""

import json
import re
from typing import Any

import pytest

from jobqueue.store.looking import listing
from jobqueue.web import Access
from tests.support.jobs.searched import store
from tests.support.jobs.store import insert, new_jobs, open_session
from tests.support.jobs.working import new_app
from tests.web.dashboard.visiting import READER, visiting

DECLINED = json.dumps([{"class": "shop.CardDeclined", "message": "no money for ada", "attempt": 1}])
JOBS: dict[str, dict[str, Any]] = {
    "mail": {"queue": "mail", "args": '{"to": "ada"}', "key": "task\nada's"},
    "dead": {"queue": "billing", "task": "charge", "errors": DECLINED},
    "markup": {"queue": "<b>\"'", "task": "<script>", "errors": json.dumps([{"class": "<i>.<u>"}])},
}


def rows(page: str) -> list[str]:
    """The ids of the jobs that it lists, in order."""
    return re.findall(r'name="id" value="([^"]+)"', page) or re.findall(r'class="mono" href="/jobs/([^"]+)"', page)


async def test_it_is_searched_by_whatever_is_known(database: str) -> None:
    """Fields of the URL, and the box; an id, or a part of it, leads to its job."""
    ids = {name: str(id) for name, id in store(database, JOBS, finished=True).items()}
    async with new_app(database) as app, visiting(app) as client:
        for query, found in {
            "": ["markup", "dead", "mail"],
            "queue=mail": ["mail"],
            "q=queue:mail": ["mail"],
            "task=charge&error=&origin=": ["dead"],
            "error=CardDeclined": ["dead"],
            "q=error:CardDeclined": ["dead"],
            "q=args.to:ada": ["mail"],
            "args=to=ada": ["mail"],
            "q=money": ["dead"],
            "key=ada's": ["mail"],
            "state=completed&state=dead&queue=billing": ["dead"],
            "state=completed": [],
            'q="deadbeef1"': [],
        }.items():
            page = await client.get(f"/jobs?{query}")
            assert (query, 200, [ids[name] for name in found]) == (query, page.status_code, rows(page.text))
        for part in (ids["dead"], ids["dead"][-8:]):
            answer = await client.get(f"/jobs?q={part}")
            assert (303, f"/jobs/{ids['dead']}") == (answer.status_code, answer.headers["location"])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("q=0123abcd4", "no single job has an id"),
        ("state=gone", "state"),
        ("q=state:gone", "cannot be understood"),
        ("bundle=x", "bundle"),
        ("before=x", "before"),
        ("args=to", "args"),
        ("fingerprint=x", "fingerprint"),
        ("q=queue:mail&queue=other", "say it once"),
        (f"q={'x' * 1_001}", "1000"),
        ("queue=%00", "queue"),
    ],
)
async def test_what_cannot_be_meant_is_said(database: str, query: str, said: str) -> None:
    """In a sentence; nothing is looked for."""
    async with new_app(database) as app, visiting(app) as client:
        page = await client.get(f"/jobs?{query}")
    assert 400 == page.status_code
    assert said in page.text


async def test_filters_that_are_set_can_be_taken_off(database: str) -> None:
    """One by one; and what is done to all that match says the same filters."""
    store(database, JOBS, finished=True)
    async with new_app(database) as app, visiting(app) as client:
        page = (await client.get("/jobs?state=dead&queue=billing&q=money")).text
    assert '<a href="/jobs?q=money&amp;queue=billing" aria-label="Without state dead">' in page
    assert 'href="/preview/jobs/retry?state=dead&amp;q=money&amp;queue=billing"' in page
    assert 'formaction="/preview/jobs/delete"' in page


async def test_names_are_text_and_nothing_else(database: str) -> None:
    """In cells, attributes and links."""
    store(database, JOBS, finished=True)
    async with new_app(database) as app, visiting(app) as client:
        page = (await client.get("/jobs", params={"q": 'task:"<script>"', "error": "<u>"})).text
    assert 1 == len(rows(page))
    assert "<script>" not in page.split("<main")[1]
    assert "/queues/%3Cb%3E%22%27" in page


async def test_a_window_that_ended_early_says_how_far_it_looked(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never that nothing matches, unless all was searched; the link goes on to the end."""
    async with open_session(database) as session:
        await insert(session, *new_jobs(1, queue="rare"), *new_jobs(300))
    monkeypatch.setattr(listing, "_FIRST_ROOM", 100)
    monkeypatch.setattr(listing, "ROOM", 100)
    monkeypatch.setattr("jobqueue.web.dashboard.reading.jobs.QUICK", 1e-9)
    monkeypatch.setattr("jobqueue.web.dashboard.reading.jobs._PATIENT", 1e-9)
    looks = 0
    async with new_app(database) as app, visiting(app) as client:
        page = (await client.get("/jobs?queue=rare&task=task")).text
        while not rows(page):
            assert "Searched back to" in page
            assert "No job matches" not in page
            (on,) = re.findall(r'href="(/jobs[^"]*before=[^"]+)"', page)
            page, looks = (await client.get(on.replace("&amp;", "&"))).text, looks + 1
        done = (await client.get("/jobs?queue=nowhere&state=dead")).text
    assert looks > 0
    assert "No job matches: all there are were searched" in done


async def test_who_sees_some_queues_sees_no_other(database: str) -> None:
    """However they ask; a page goes on where it ended, and misses none."""
    async with open_session(database) as session:
        for _ in range(3):
            await insert(session, *new_jobs(30, queue="a"), *new_jobs(30, queue="secret"), *new_jobs(5, queue="b"))
    async with new_app(database) as app:
        for queues, jobs in ((("a",), 90), (("a", "b"), 105), ((), 0)):
            found: list[str] = []
            async with visiting(app, Access("ann", operate=True, queues=queues)) as client:
                page = (await client.get("/jobs")).text
                found += rows(page)
                while link := re.findall(r'href="(/jobs[^"]*before=[^"]+)"', page):
                    page = (await client.get(link[0].replace("&amp;", "&"))).text
                    found += rows(page)
                assert "secret" not in page
                assert [] == rows((await client.get("/jobs?queue=secret")).text)
            assert (jobs, jobs) == (len(found), len(set(found)))


async def test_who_may_not_see_payloads_may_not_search_in_them(database: str) -> None:
    """The answers would tell. Names can be searched, and nothing can be selected by who may only look."""
    store(database, JOBS, finished=True)
    async with new_app(database) as app, visiting(app, READER) as client:
        refused = [
            await client.get(f"/jobs?{query}") for query in ("q=ada", "q=args.to:ada", "args=to=ada", "reason=x")
        ]
        page = await client.get("/jobs?error=CardDeclined")
    assert {403} == {answer.status_code for answer in refused}
    assert all(">you may not search in arguments and messages, which" in answer.text for answer in refused)
    assert "CardDeclined" in page.text
    assert 1 == len(rows(page.text))
    assert "checkbox" not in page.text.split("<table")[1]
    assert "money" not in page.text


async def test_an_empty_list_says_how_one_comes_to_be(database: str) -> None:
    """And its part alone is what a page that is open asks for."""
    async with new_app(database) as app, visiting(app) as client:
        page, part = await client.get("/jobs"), await client.get("/jobs?part=jobs")
    assert "Once one is deferred it stands here" in page.text
    assert "<main" not in part.text


async def test_a_part_of_an_id_leads_to_no_job_of_a_foreign_queue(database: str) -> None:
    """Its whole id would tell that it is there."""
    ids = {name: str(id) for name, id in store(database, JOBS, finished=True).items()}
    async with new_app(database) as app, visiting(app, Access("eve", queues=["mail"])) as client:
        assert 400 == (await client.get("/jobs", params={"q": ids["dead"][-12:]})).status_code
        assert 303 == (await client.get("/jobs", params={"q": ids["mail"][-12:]})).status_code
