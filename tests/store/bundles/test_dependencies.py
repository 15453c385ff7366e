"""Jobs that come after others, whoever does what at the same moment: nothing begins early, nothing is left over."""

import asyncio
import random
from itertools import pairwise
from operator import itemgetter
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from jobqueue.base.flows.bundle import NewBundle
from jobqueue.base.outcome import Dead, Done
from jobqueue.bundles.storing import Part, store_part
from jobqueue.store import steering
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import bundles, dependencies
from jobqueue.store.flows.dependencies import resolve, results_before
from tests.store.bundles.test_ends import WAYS, Member
from tests.support.jobs.bundled import CALLBACKS, called, counts, fold, now
from tests.support.jobs.graphs import EARLY, coming, see_to_facts, settle, states, stored_graph, tallied
from tests.support.jobs.store import (
    claim,
    claim_one,
    connect,
    failure,
    finish,
    insert,
    new_job,
    open_session,
    open_sessions,
)
from tests.support.rounds import rounds

HANDS, ROUNDS = 6, rounds(50)
PAGES = [f"page {n}" for n in range(5)]
DEAD = Dead("attempts", failure())


@pytest.mark.parametrize("way", sorted(WAYS))
async def test_however_a_job_ends_those_after_it_hear_of_it(database: str, way: str) -> None:
    """Completed, it lets both begin; ended otherwise, only the one that takes any end; unfinished, none."""
    end, expected = WAYS[way]
    async with open_session(database) as session, connect(database) as connection:
        graph = {"first": [], "other": [], "second": ["first"], "whatever": ["first"]}
        _, ids = await stored_graph(session, graph, any_ends=["whatever"])
        await end(Member(session, database, ids["first"]))
        await settle(session)

        found = await states(connection)
        second, whatever = {
            (1, 0, 0): ("ready", "ready"), (0, 0, 0): ("blocked", "blocked"),
        }.get(expected, ("dependency", "ready"))  # fmt: skip
        if way.startswith("is revived"):  # it had ended before it was revived, and one look sees only what is
            second = whatever = "blocked"
        assert (second, whatever) == (found["second"], found["whatever"])
        left = await connection.fetchval("select count(*) from jobqueue.dependency")
        assert {"ready": 0, "dependency": 1, "blocked": 2}[second] == left


async def chaos(session: Session, chance: random.Random, dsn: str) -> int:
    """Run what is ready, some of it to its death; retry what is dead. How many began before what they come after."""
    early = 0
    async with connect(dsn) as connection:
        while True:
            rows = await claim(session, chance.choice([1, 7]))
            if rows:
                early += await connection.fetchval(EARLY, [row["id"] for row in rows])
            for row in rows:
                dead = chance.random() < 0.15
                while not await finish(session, row, outcome=DEAD if dead else None):
                    pass  # a claim of another hand has the row for a moment
                if dead and chance.random() < 0.9:
                    await asyncio.sleep(0)
                    await steering.retry(session, [row["id"]])
            if not await see_to_facts(session) and not rows:
                return early


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_begins_early_and_nothing_is_left(database: str, seed: int) -> None:
    """Layers of jobs, six hands, one in seven dies and most of those are retried; in the end all are completed."""
    chance = random.Random(seed)  # noqa: S311 - a reproducible soak
    names = [[f"{layer}.{n}" for n in range(30)] for layer in range(5)]
    graph = {name: list[str]() for name in names[0]}
    for before, layer in pairwise(names):
        graph |= {name: chance.sample(before, chance.choice([1, 3])) for name in layer}
    async with open_sessions(database, HANDS) as hands, connect(database) as connection:
        id, _ = await stored_graph(hands[0], graph, CALLBACKS[2])
        while True:
            hired = [chaos(hand, random.Random(seed * 10 + n), database) for n, hand in enumerate(hands)]  # noqa: S311 - a reproducible soak
            assert [0] * HANDS == await asyncio.gather(*hired)
            assert not await connection.fetchval("select exists (select from jobqueue.job where follow & 4 = 0)")
            dead = await connection.fetch("select id from jobqueue.job_archive where state = 'dead'")
            if not dead:
                break
            await steering.retry(hands[0], [row["id"] for row in dead])

        found = await now(hands[0], id)
        assert ((len(graph), len(graph), 0, 0), True) == (counts(found), found.finished)
        assert 0 == await connection.fetchval("select count(*) from jobqueue.dependency")
        rounds = await connection.fetchval(
            "select (select count(*) from jobqueue.job where follow & 4 <> 0)"
            " + (select count(*) from jobqueue.job_archive where follow & 4 <> 0)"
        )
        assert found.round == rounds


async def test_the_last_two_that_end_together_let_it_begin(database: str) -> None:
    """Each is looked at by another hand in the same moment: neither may rely on what it saw before it had the lock."""
    async with open_sessions(database, 2) as pair, connect(database) as connection:
        graph: dict[str, list[str]] = {name: [] for n in range(ROUNDS) for name in (f"a{n}", f"b{n}")}
        graph |= {f"c{n}": [f"a{n}", f"b{n}"] for n in range(ROUNDS)}
        _, ids = await stored_graph(pair[0], graph)
        await finish(pair[0], *await claim(pair[0], 2 * ROUNDS))
        for n in range(ROUNDS):
            await asyncio.gather(resolve(pair[0], [ids[f"a{n}"]]), resolve(pair[1], [ids[f"b{n}"]]))
        await settle(pair[0])

        assert {"completed": 2 * ROUNDS, "ready": ROUNDS} == await tallied(connection)


@pytest.mark.parametrize("outcome", [None, DEAD], ids=["completed", "dead"])
async def test_it_may_come_after_a_job_that_is_just_ending(database: str, outcome: Dead | None) -> None:
    """While a job ends, another is stored to come after it: it begins, or is cancelled, but never waits for ever."""
    async with open_sessions(database, 2) as (ours, theirs), connect(database) as connection:
        for n in range(ROUNDS):
            (first,) = await insert(ours, new_job(f"first {n}"))
            row = await claim_one(ours)
            part = Part(NewBundle(uuid7(), "late"), [coming(new_job(f"late {n}"), first)], first=True, last=True)
            await asyncio.gather(finish(ours, row, outcome=outcome), store_part(theirs, part, always=False))
            while not await finish(ours, row, outcome=outcome):
                pass  # whoever stores what comes after it has the row for a moment
            await settle(ours)
            expected = "ready" if outcome is None else "dependency"
            assert expected == (await states(connection))[f"late {n}"], n
            await connection.execute("delete from jobqueue.job")


async def test_a_job_that_somebody_has_locked_holds_up_no_other(database: str) -> None:
    """A caller's open transaction has one of those that wait: the others begin, and this one as soon as it may."""
    async with open_session(database) as session, connect(database) as caller:
        _, ids = await stored_graph(session, {"first": [], "held": ["first"], "free": ["first"]})
        await finish(session, await claim_one(session))
        async with caller.transaction():
            await caller.execute("select from jobqueue.job where id = $1 for update", ids["held"])
            await see_to_facts(session)
            async with connect(database) as connection:
                found = await states(connection)
                assert ("blocked", "ready") == (found["held"], found["free"])
        await settle(session)
        assert "ready" == (await states(caller))["held"]


async def test_many_that_wait_for_one_are_done_in_parts(database: str) -> None:
    """A fan-out larger than what is done at a time begins whole, and is doomed whole, and revived whole."""
    async with open_session(database) as session, connect(database) as connection:
        graph = {"first": [], **{f"then {n}": ["first"] for n in range(1_200)}}
        _, ids = await stored_graph(session, graph)
        await finish(session, await claim_one(session), outcome=DEAD)
        await settle(session)
        assert {"attempts": 1, "dependency": 1_200} == await tallied(connection)

        await steering.retry(session, [ids["first"]])
        await settle(session)
        assert {"ready": 1, "blocked": 1_200} == await tallied(connection)
        await finish(session, await claim_one(session))
        await settle(session)
        assert {"completed": 1, "ready": 1_200} == await tallied(connection)


async def test_a_bundle_does_not_end_while_some_may_come_back(database: str) -> None:
    """A dead member was retried, and has completed, before anybody looked at what it had doomed: that is one round."""
    async with open_session(database) as session:
        id, ids = await stored_graph(session, {"first": [], "second": ["first"]}, *CALLBACKS)
        await finish(session, await claim_one(session), outcome=DEAD)
        await settle(session)
        assert ["on_failure", "on_finish"] == await called(session)

        await steering.retry(session, [ids["first"]])
        await finish(session, await claim_one(session))
        await fold(session, id)
        assert not (await now(session, id)).finished
        await settle(session)
        await finish(session, await claim_one(session))
        await settle(session)
        found = await now(session, id)
        assert ((2, 2, 0, 0), 2, True) == (counts(found), found.round, found.finished)
        assert ["on_finish", "on_success"] == await called(session)


async def test_a_finished_bundle_is_not_opened_by_those_who_come_after_its_members(database: str) -> None:
    """Jobs of another bundle wait for what has ended in this one: to it that is no news."""
    async with open_session(database) as session:
        id, ids = await stored_graph(session, {"first": [], "second": ["first"]}, *CALLBACKS)
        for _ in range(2):
            await finish(session, await claim_one(session))
            await settle(session)
        await called(session)
        part = Part(NewBundle(uuid7(), "late"), [coming(new_job("late"), *ids.values())], first=True, last=True)
        await store_part(session, part, always=False)
        await bundles.touch_bundle(session, id)
        await fold(session, id)
        await settle(session)

        found = await now(session, id)
        assert (1, True) == (found.round, found.finished)
        assert ["late"] == [row["task"] for row in await claim(session)], "and no callback"


async def test_whoever_has_a_job_that_waits_is_not_pestered(database: str) -> None:
    """While a caller's open transaction has the only one, a look changes nothing, and says so."""
    async with open_session(database) as session, connect(database) as caller:
        _, ids = await stored_graph(session, {"first": [], "held": ["first"]})
        await finish(session, await claim_one(session))
        async with caller.transaction():
            await caller.execute("select from jobqueue.job where id = $1 for update", ids["held"])
            found = await resolve(session, [ids["first"]])
            assert (set(), set()) == (found.looked, found.needed)
        assert {ids["first"]} == (await resolve(session, [ids["first"]])).looked


async def doomed(session: Session, **said: Any) -> dict[str, UUID]:
    """A job that is dead, and one that was cancelled for want of it; the first one runs again, and is completed."""
    ids = {name: uuid7() for name in ("first", "second")}
    jobs = [new_job("first", id=ids["first"]), coming(new_job("second", id=ids["second"], **said), ids["first"])]
    await store_part(session, Part(NewBundle(uuid7(), "graph"), jobs, first=True, last=True), always=False)
    await finish(session, await claim_one(session), outcome=DEAD)
    await settle(session)
    await steering.retry(session, [ids["first"]])
    await finish(session, await claim_one(session))
    return ids


async def test_a_key_in_a_strangers_transaction_holds_up_no_other(database: str) -> None:
    """What was doomed cannot come back yet; what others wait for goes on, and it comes back when that has ended."""
    async with open_session(database) as session, connect(database) as caller:
        await doomed(session, key="k")
        transaction = caller.transaction()
        await transaction.start()
        await caller.execute(
            "insert into jobqueue.job_key (key, job_id, scope) values ('k', $1, 'unfinished')", uuid7()
        )
        await stored_graph(session, {"a": [], "b": ["a"]})
        await finish(session, *await claim(session))
        for _ in range(3):
            await see_to_facts(session)
        async with connect(database) as connection:
            assert ("ready", "dependency") == itemgetter("b", "second")(await states(connection))
        await transaction.rollback()
        await settle(session)
        assert "ready" == (await states(caller))["second"]


async def test_what_somebody_has_locked_comes_back_later(database: str) -> None:
    """A caller's transaction has a doomed job in the archive while what it needs is completed: it is not forgotten."""
    async with open_session(database) as session, connect(database) as caller:
        ids = await doomed(session)
        async with caller.transaction():
            await caller.execute("select from jobqueue.job_archive where id = $1 for update", ids["second"])
            for _ in range(3):
                await see_to_facts(session)
        assert "dependency" == (await states(caller))["second"]
        await settle(session)
        assert "ready" == (await states(caller))["second"]


async def test_what_cannot_come_back_is_given_up(database: str) -> None:
    """Another job has its unique key by now: it stays cancelled, is told, and holds up neither facts nor its bundle."""
    async with open_session(database) as session, connect(database) as connection:
        ids = await doomed(session, key="k")
        await insert(session, new_job("third", key="k"))
        found = await resolve(session, [ids["first"]])
        assert ({ids["second"]}, {ids["first"]}) == (found.given_up, found.needed)
        await resolve(session, [ids["first"]], found.given_up)
        await settle(session)
        assert ("completed", "dependency") == itemgetter("first", "second")(await states(connection))
        assert await connection.fetchval("select bool_and(finished_at is not null) from jobqueue.bundle")


async def test_a_result_is_kept_though_its_job_runs_again(database: str) -> None:
    """A completed job is retried, and dies, before the one that came after it begins: that one reads what it gave."""
    async with open_session(database) as session:
        bundle, ids = await stored_graph(session, {"first": [], "second": ["first"]})
        await finish(session, await claim_one(session), outcome=Done("7"))
        await settle(session)
        await steering.retry(session, [ids["first"]])
        again = next(row for row in await claim(session) if row["id"] == ids["first"])
        await finish(session, again, outcome=DEAD)
        await settle(session)
        assert [(1, "7")] == await results_before(session, bundle, ids["second"], "first", 0, 10)


async def test_what_has_come_back_and_ended_is_not_revived(database: str) -> None:
    """Two saw that a job must come back: the second one finds that it has run since, and leaves it alone."""
    async with open_session(database) as session, connect(database) as connection:
        ids = await doomed(session)
        await settle(session)
        await finish(session, await claim_one(session))
        assert {} == await steering.revive(session, [ids["second"]])
        assert {"completed": 2} == await tallied(connection)


async def test_what_is_completed_revives_nobody(database: str) -> None:
    """One of many is dead, and the others are completed after that: what needs them all was cancelled, once."""
    async with open_session(database) as session, connect(database) as connection:
        await stored_graph(session, {"dead": [], **{page: [] for page in PAGES}, "all": ["dead", *PAGES]})
        await finish(session, await claim_one(session), outcome=DEAD)
        await settle(session)
        for _ in PAGES:
            await finish(session, await claim_one(session))
            await settle(session)
        told = await connection.fetch("select type from jobqueue.event where type not in ('job.completed', 'job.dead')")
        assert ["bundle.finished", "job.cancelled"] == sorted(row["type"] for row in told)


async def test_a_worker_that_dies_before_it_revives_leaves_that_to_others(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was doomed comes back after the look has been committed: until it has, the fact is there."""
    async with open_session(database) as session, connect(database) as connection:
        ids = await doomed(session)

        async def dies(*_: object) -> dict[UUID, bool]:
            raise OSError

        with monkeypatch.context() as dying:
            dying.setattr(dependencies, "_revive", dies)
            with pytest.raises(OSError):
                await resolve(session, [ids["first"]])
        await settle(session)
        assert "ready" == (await states(connection))["second"]


async def test_a_day_that_was_never_made_dooms_nobody_less(database: str) -> None:
    """No worker has run for days: the first look makes the day, and cancels what it must."""
    async with open_session(database) as session, connect(database) as connection:
        await stored_graph(session, {"first": [], "second": ["first"]})
        await finish(session, await claim_one(session), outcome=DEAD)
        for (leaf,) in await connection.fetch("select leaf from jobqueue.archive_pieces() where kind = 'other'"):
            await connection.execute(f"drop table jobqueue.{leaf}")
        await settle(session)
        assert "dependency" == (await states(connection))["second"]


async def test_a_retry_in_the_moment_of_the_look_is_not_overlooked(database: str) -> None:
    """A dead job is retried while one hand looks at its end, and another at its retry: what needs it waits again."""
    async with open_sessions(database, 2) as pair, connect(database) as connection:
        graph: dict[str, list[str]] = {f"a{n}": [] for n in range(3 * ROUNDS)}
        _, ids = await stored_graph(pair[0], graph | {f"b{n}": [f"a{n}"] for n in range(3 * ROUNDS)})
        await finish(pair[0], *await claim(pair[0], 3 * ROUNDS), outcome=DEAD)

        async def retried(id: UUID) -> None:
            await steering.retry(pair[1], [id])
            await resolve(pair[1], [id])

        for n in range(3 * ROUNDS):
            await asyncio.gather(resolve(pair[0], [ids[f"a{n}"]]), retried(ids[f"a{n}"]))
        await settle(pair[0])

        assert {"ready": 3 * ROUNDS, "blocked": 3 * ROUNDS} == await tallied(connection)
