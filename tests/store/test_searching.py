"""Jobs are found by what is in them: exactly, whatever is stored, and in bounded time."""

import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from jobqueue.base.looking.search import Inside, fingerprint_of
from jobqueue.store.connection.session import Session
from jobqueue.store.looking import listing
from jobqueue.store.looking.listing import JobPage, Wanted, find_ids, list_jobs
from tests.store.test_listing import HIGHEST, LOWEST, UNFINISHED, low_uuid4, many, with_many
from tests.support.jobs.searched import store
from tests.support.jobs.store import connect, insert, new_job, open_session
from tests.support.postgres.plans import run_learned

PLACE = "shop/billing.py:88 charge"
DECLINED = {"class": "shop.errors.CardDeclined", "message": "Card 4711 was DECLINED", "code_place": PLACE}
JOBS: dict[str, dict[str, Any]] = {
    "ada": {"args": '{"to": "ada@example.com", "order": {"id": 88123, "items": [{"sku": "abc"}]}}', "queue": "mail"},
    "big": {"args": '{"order": {"id": 123456789012345678901234567890}, "price": 1.50, "paid": true, "by": null}'},
    "dots": {"args": '{"a.b": {"c \\"d\\"": "x y"}, "text": "Say \\"Hi\\" to \\\\ 100%_é"}'},
    "nul": {"args": '{"to": "nul@example.com", "odd": "\\u0000", "half": "\\ud800", "back": "\\\\u0000"}'},
    "failed": {"errors": json.dumps([{"class": "OSError", "message": "first"}, DECLINED]), "task": "charge"},
    "null": {"errors": "null"},
    "object": {"errors": '{"class": "CardDeclined"}'},
    "words": {"errors": '["CardDeclined", 5]'},
    "classless": {"errors": '[{"message": 5}]'},
    "nested": {"errors": '[{"class": {"a": 1}, "message": ["x"]}]'},
    "large": {"errors": json.dumps([{"class": "E", "message": "x" * 2**20 + "needle"}])},
    "key": {"key": "charge\ncustomer-7", "task": "charge"},
    "progress": {"progress": '{"message": "Half DONE", "fraction": 0.5}'},
    "oddly": {"progress": '["half"]'},
    "deep": {"args": '{"a": ' + "[" * 1_000 + "]" * 1_000 + "}"},
}
ONLY_FINISHED = {"null", "object"}
"""A check of the table lets no unfinished job have such errors."""
CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({"args": {"to": "ada@example.com"}}, {"ada"}),
    ({"args": {"order.id": 88123}}, {"ada"}),
    ({"args": {"order.id": "88123"}}, {"ada"}),
    ({"args": {"order.id": 8812}}, set()),
    ({"args": {"order.items.0.sku": "abc", "to": "ada@example.com"}}, {"ada"}),
    ({"args": {"order.items.0.sku": "abc", "to": "bob@example.com"}}, set()),
    ({"args": {"order.items.1.sku": "abc"}}, set()),
    ({"args": {"order": "88123"}}, set()),
    ({"args": {"order.id": 123456789012345678901234567890}}, {"big"}),
    ({"args": {"order.id": 123456789012345678901234567891}}, set()),
    ({"args": {"price": "1.50"}}, {"big"}),
    ({"args": {"paid": True}}, {"big"}),
    ({"args": {"by": None}}, {"big"}),
    ({"args": {'"a.b"."c \\"d\\""': "x y"}}, {"dots"}),
    ({"args": {"to": "nul@example.com"}}, {"nul"}),
    ({"args": {"back": "\\u0000"}}, {"nul"}),
    ({"text": "NUL@EXAMPLE"}, {"nul"}),
    ({"text": '"Hi"'}, {"dots"}),
    ({"text": "hi\\"}, {"dots"}),
    ({"text": "100%_"}, {"dots"}),
    ({"text": "100_%"}, set()),
    ({"text": ".*"}, set()),
    ({"text": "card 4711"}, {"failed"}),
    ({"text": "first"}, set()),
    ({"text": "NEEDLE"}, {"large"}),
    ({"text": "customer-7"}, {"key"}),
    ({"text": "charge"}, set()),
    ({"text": "half done"}, {"progress"}),
    ({"key": "customer-7"}, {"key"}),
    ({"key": "customer"}, set()),
    ({"error": "CardDeclined"}, {"failed"}),
    ({"error": "shop.errors.CardDeclined"}, {"failed"}),
    ({"error": "Declined"}, set()),
    ({"error": "OSError"}, set()),
    ({"error": "E"}, {"large"}),
    ({"fingerprint": fingerprint_of("charge", "shop.errors.CardDeclined", PLACE)}, {"failed"}),
    ({"fingerprint": fingerprint_of("charge", "shop.errors.CardDeclined", "shop/billing.py:7 charge")}, {"failed"}),
    ({"fingerprint": fingerprint_of("charge", "shop.errors.CardDeclined", "shop/billing.py:88 other")}, set()),
    ({"fingerprint": fingerprint_of("task", "", None)} | {"text": "needle"}, set()),
    ({"error": "CardDeclined", "text": "declined"}, {"failed"}),
    ({"reason": "expired"}, set()),
]


@pytest.mark.parametrize("finished", [False, True], ids=["unfinished", "finished"])
async def test_a_job_is_found_by_what_is_in_it(database: str, finished: bool) -> None:
    """Each filter finds the jobs that it means and no others, in a list and for steering, among values however odd."""
    kept = {name: job for name, job in JOBS.items() if finished or name not in ONLY_FINISHED}
    ids = store(database, kept, finished=finished)
    names = {id: name for name, id in ids.items()}
    async with open_session(database) as session:
        for said, expected in CASES:
            wanted = Wanted(inside=Inside(**said))
            page = await list_jobs(session, wanted, after=None, limit=50)
            assert expected == {names[job.id] for job in page}, said
            assert (None, None, len(kept)) == (page.next, page.reached, page.searched), said
            assert expected == {names[id] async for ids in find_ids(session, wanted, 500) for id in ids}, said
        other = Wanted(queue="other", inside=Inside(text="ada"))
        assert [] == await list_jobs(session, other, after=None, limit=50)
        if finished:
            ended = Wanted(inside=Inside(reason="attempts"))
            assert len(kept) == len(await list_jobs(session, ended, after=None, limit=50))


async def everything(session: Session, wanted: Wanted, limit: int, **said: Any) -> list[JobPage]:
    """All pages of a search."""
    pages = [await list_jobs(session, wanted, after=None, limit=limit, **said)]
    while (after := pages[-1].next) is not None:
        pages.append(await list_jobs(session, wanted, after=after, limit=limit, **said))
    return pages


@pytest.mark.parametrize("finished", [False, True], ids=["unfinished", "finished"])
async def test_a_search_that_has_no_time_goes_on_where_it_ended(
    database: str, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows that end at their first job leave nothing out and find nothing twice, in a list and for steering."""
    monkeypatch.setattr(listing, "_STEP", 1e-6)
    monkeypatch.setattr(listing, "_SHORTEST", 1e-6)
    jobs = {f"job {n}": {"args": json.dumps({"n": n % 3})} for n in range(60)}
    ids = store(database, jobs, finished=finished)
    meant = [ids[f"job {n}"] for n in range(0, 60, 3)]
    wanted = Wanted(inside=Inside(args={"n": 0}))
    async with open_session(database) as session:
        pages = await everything(session, wanted, 50, patience=1e-6)
        found = [id async for page in find_ids(session, wanted, 500) for id in page]

    assert len(pages) > 20
    assert meant[::-1] == [job.id for page in pages for job in page]
    assert 60 == sum(page.searched for page in pages)
    back = [page.reached for page in pages]
    assert back[-1] is None
    assert back[:-1] == sorted((moment for moment in back if moment is not None), reverse=True)
    assert meant == found


async def test_ids_that_tell_no_time_are_searched_as_well(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of the caller's own, of a clock that is ahead, and ours: with no time left each is looked at once."""
    monkeypatch.setattr(listing, "_STEP", 1e-6)
    monkeypatch.setattr(listing, "_SHORTEST", 1e-6)
    async with open_session(database) as session:
        made = [new_job(args='{"n": 1}', id=low_uuid4() if n % 2 else uuid7()) for n in range(40)]
        await insert(session, *made)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(ARCHIVE_HALF)
        pages = await everything(session, Wanted(inside=Inside(args={"n": 1})), 7, patience=1e-6)

    found = [job.id for page in pages for job in page]
    assert 40 == len(found)
    assert {job.id for job in made} == set(found)


ARCHIVE_HALF = """
with gone as (delete from jobqueue.job where id in (select id from jobqueue.job order by id limit 20)
  returning *)
insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
  fence, via, follow, created_at, finished_at)
select id, queue, task, args, priority, 'dead', due_at, attempt, max_attempts, crashes, lost, fence, via, follow,
  created_at, now() from gone
"""
LARGE = """
alter table jobqueue.job_archive alter column args set storage external;
insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
  fence, via, follow, created_at, finished_at)
select jobqueue.new_id(), 'q', 't', args, 0, 'dead', now(), 1, 1, 0, 0, n, 'py', 0, now(), now()
from generate_series(1, 1200) n,
  (select json_build_object('note', string_agg(md5(g::text), '')) as args from generate_series(1, 6250) g) as large
"""


async def test_large_arguments_do_not_make_a_search_long(database: str) -> None:
    """1 200 jobs of 200 KB each, 240 MB of text: a page ends about when its patience does, and says how far it got."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set synchronous_commit = off")
        connection.execute(LARGE)  # stored as they are: they do not become smaller, but trying took the longest
    async with open_session(database) as session:
        page = await list_jobs(session, Wanted(inside=Inside(text="no such text")), after=None, limit=50, patience=0.3)

    assert [] == page
    assert 0 < page.searched < 100 + 800  # a window, the second at the latest, is not read to its end
    assert None is not page.next
    assert None is not page.reached


@with_many
def test_a_search_reads_its_window_and_no_more(database: str) -> None:
    """With any filter, by a plan of its own or one for all, a window touches few pages and its room, known or not."""
    with many(database, analysed=False) as connection:
        for analysed in (False, True):
            if analysed:
                connection.execute("analyze jobqueue.job")
            for said in ({}, {"queue": "nobody"}):
                names = (said.get("queue"), None, None)
                for room, most in ((100, 60), (10_000, 420)):
                    for mode in ("custom", "generic"):
                        wanted = ('{"args": [["{n}", "1"]], "text": "x", "error": "E"}', 9.0)
                        values = (HIGHEST, room, 50, UNFINISHED, *names, None, *wanted)
                        down = run_learned(connection, "search_unfinished", values, mode, most)
                        up = run_learned(
                            connection, "seek_unfinished", (LOWEST, room, 500, UNFINISHED, *names, *wanted), mode, most
                        )
                        assert down.buffers <= most, f"{said} {room} {mode}: {down.buffers}"
                        assert up.buffers <= most, f"{said} {room} {mode}: {up.buffers}"


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=20, max_size=20))
def test_fingerprints_are_the_same_in_sql(database: str, facts: list[tuple[str, str, str]]) -> None:
    """What Python says of task, class and place the database says too, lines left out."""
    facts = [*facts, *(("t", "C", place) for place in (PLACE, "a:1 b:2 c", "", ":", "a b:1"))]
    facts += [("é", "€", "ü.py:١ f"), ("t\\n", "\\\\x41", "C:\\x.py:1 f")]
    expected = [fingerprint_of(*each) for each in facts]
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select jobqueue.fingerprint(t, c, p) from unnest(%s::text[], %s::text[], %s::text[]) as f(t, c, p)",
            [list(column) for column in zip(*facts, strict=True)],
        ).fetchall()
    assert expected == [found for (found,) in rows]


async def test_what_catches_errors_is_in_no_parallel_plan(database: str) -> None:
    """Before PostgreSQL 17 a block with `exception` cannot begin in one: the statement fails."""
    async with connect(database) as connection:
        found = await connection.fetch(
            "select proname from pg_proc where pronamespace = 'jobqueue'::regnamespace and proparallel <> 'u'"
            r" and prosrc ~ '\mexception\s+when\M'"
        )
    assert [] == [row["proname"] for row in found]
