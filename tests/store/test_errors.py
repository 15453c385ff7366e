"""Failures in groups: alike by task, class and function, over the latest dead jobs, in bounded time."""

import json
from datetime import timedelta
from typing import Any

import psycopg

from jobqueue.base.looking.search import fingerprint_of
from jobqueue.store.looking import errors
from jobqueue.store.looking.errors import error_groups
from tests.support.history import finished
from tests.support.jobs.searched import store
from tests.support.jobs.store import open_session
from tests.support.postgres.plans import run_learned


def failed(error_class: object, place: str | None = None, **own: Any) -> dict[str, Any]:
    entry = {"class": error_class, "message": "secret", "code_place": place}
    return {"errors": json.dumps([{"class": "Earlier"}, entry]), "task": "charge", **own}


async def test_what_failed_alike_is_one_group(database: str) -> None:
    """Alike: task, class and function, on any line; each group says how often, where, since when, for example."""
    jobs = {f"here {n}": failed("E", f"shop/billing.py:{n} charge", queue=f"q{n % 2}") for n in range(10)}
    jobs |= {f"there {n}": failed("E", "shop/billing.py:5 refund") for n in range(3)}
    jobs |= {"other": failed("E", "shop/billing.py:5 charge", task="refund"), "old": failed("shop.Old")}
    jobs |= {"expired": {"reason": "expired", "task": "charge"}, "done": failed("E", state="completed")}
    jobs |= {"cancelled": failed("E", state="cancelled", reason=None)}
    ids = store(database, jobs, finished=True)
    async with open_session(database) as session:
        groups = await error_groups(session)
        of_queue = await error_groups(session, queues=["q1"])
        few = await error_groups(session, limit=1)

    first = groups[0]
    assert [10, 3, 1, 1, 1] == [group.count for group in groups]
    assert ("charge", "E", "shop/billing.py:9 charge") == (first.task, first.error_class, first.place)
    assert fingerprint_of("charge", "E", "shop/billing.py:1 charge") == first.fingerprint
    assert (("q0", "q1"), ("attempts",), ids["here 9"]) == (first.queues, first.reasons, first.sample)
    assert first.first < first.last
    assert 20 == len(first.trend)
    assert {group.count for group in groups} == {sum(group.trend) for group in groups}
    assert {fingerprint_of("charge", "shop.Old", None), fingerprint_of("charge", "", None)} <= {
        group.fingerprint for group in groups
    }
    assert [("", None, ("expired",))] == [
        (group.error_class, group.place, group.reasons) for group in groups if not group.error_class
    ]
    assert (16, True) == (groups.looked, groups.whole)
    assert groups.since is not None
    assert timedelta(0) < groups.read_at - groups.since < timedelta(minutes=5)
    assert [(5, 16)] == [(group.count, of_queue.looked) for group in of_queue]
    assert [first.fingerprint] == [group.fingerprint for group in few]


async def test_odd_errors_end_nothing(database: str) -> None:
    """Null, no list, no class, a class that is no text, a message of a megabyte: each is counted."""
    odd = [
        "null",
        "[]",
        '{"class": "E"}',
        '"E"',
        "5",
        '["E"]',
        '[{"message": 1}]',
        '[{"class": null}]',
        '[{"class": {}}]',
    ]
    odd += [json.dumps([{"class": "E", "message": "x" * 2**20}]), json.dumps([{"class": "E" * 2**20}])]
    odd += ['[{"class": "E", "code_place": 5}]', '[{"class": "E", "code_place": ["a"]}]', '[{"class": "\\\\x41 é"}]']
    store(database, {text: {"errors": text} for text in odd}, finished=True)
    async with open_session(database) as session:
        groups = await error_groups(session)

    assert len(odd) == groups.looked == sum(group.count for group in groups)
    assert 200 == max(len(group.error_class) for group in groups)


async def test_nothing_failed(database: str) -> None:
    """Without a dead job there are no groups, and no since."""
    async with open_session(database) as session:
        groups = await error_groups(session)

    assert ([], None, 0, True) == (groups, groups.since, groups.looked, groups.whole)


async def test_the_latest_are_looked_at(database: str) -> None:
    """Of more dead jobs than there is room for, in several days, those are in the window that ended last."""
    for days, queue in ((2, "old"), (1, "day"), (0, "now")):
        finished(database, 300, seconds=days * 86_400.0, state="dead", queue=queue)
        finished(database, 300, seconds=days * 86_400.0, state="cancelled", queue=queue)
    async with open_session(database) as session:
        groups = await error_groups(session, room=400)
        assert ([("day", "now")], 400, False) == ([group.queues for group in groups], groups.looked, groups.whole)
        assert (300, 100) == tuple(sum(part) for part in (groups[0].trend[10:], groups[0].trend[:10]))
        groups = await error_groups(session, room=300)
        assert ([("now",)], 300, False) == ([group.queues for group in groups], groups.looked, groups.whole)
        groups = await error_groups(session, room=1_000)
        assert (900, True) == (groups.looked, groups.whole)
        hurried = await error_groups(session, patience=0.0)
        assert (0, False) == (hurried.looked, hurried.whole)


def test_a_window_of_errors_costs_the_same_in_a_long_history(database: str) -> None:
    """Among 30 000 dead jobs it reads the pages of its own, by a plan of its own or one for all."""
    finished(database, 30_000, state="dead")
    with psycopg.connect(database, autocommit=True) as connection:
        for mode in ("custom", "generic"):
            plan = run_learned(connection, "error_groups", (500, 60.0, None, errors.GROUPS, 20), mode, 400)
            assert plan.buffers <= 400, f"{mode}: {plan.buffers}\n{plan}"
