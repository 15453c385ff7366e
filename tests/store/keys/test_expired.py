"""Claims that nobody holds any more are found, counted and taken back, each once; living workers keep theirs."""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Iterable
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from jobqueue.base.job import WorkerId
from jobqueue.base.outcome import Released
from jobqueue.store import workers
from jobqueue.store.connection.session import Session
from jobqueue.store.leases import Expired, give_back_strays, take_expired, write_expired
from jobqueue.store.workers import Neighbour
from tests.support.jobs.deaths import ALIVE, SILENT, left_running, worker_row
from tests.support.jobs.store import (
    LEASE,
    WORKER,
    claim,
    connect,
    finish,
    insert,
    new_job,
    new_jobs,
    open_session,
    open_sessions,
)
from tests.support.patience import PATIENCE

OVER, HOLDS = -1.0, 60.0
"""Seconds that are left of a lease."""


async def rescue(
    session: Session, page: int = 100, *, dead: Collection[UUID] = (), settle: float = 0.0
) -> list[Expired]:
    """Take back one page of claims, as a rescuer does."""
    async with session.transaction():
        rows = await take_expired(session, WORKER, page, dead, settle)
        await write_expired(session, {row["id"]: (row, Released()) for row in rows})
    return rows


def ids(rows: Iterable[Expired]) -> set[UUID]:
    return {row["id"] for row in rows}


@pytest.mark.parametrize("lease", [OVER, HOLDS])
@pytest.mark.parametrize("attempts", [1, 20])
@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("evidence", ["silent", "alive", "absent", "dead"])
async def test_what_is_taken_and_what_counts_as_a_crash(
    database: str, evidence: str, started: bool, attempts: int, lease: float
) -> None:
    """S1-17, S4-66, protocols A4: taken if the lease is over or the worker is known dead.

    A crash only if nobody vouches for the worker; else the claim was lost. What may run only once must have started.
    """
    worker = uuid7() if evidence == "absent" else await worker_row(database, SILENT if evidence == "silent" else ALIVE)
    dead = [worker] if evidence == "dead" else []
    async with open_session(database) as session:
        (id,) = await insert(session, *new_jobs(1, max_attempts=attempts))
        await left_running(database, [id], worker, lease=lease, started=started)
        async with session.transaction():
            rows = await take_expired(session, WORKER, 10, dead, 0.0)

    if lease == HOLDS and evidence != "dead":
        assert [] == rows
        return
    (row,) = rows
    crashed = (started or attempts > 1) and evidence != "alive"
    assert (id, worker, crashed) == (row["id"], row["worker_id"], row["crashed"])
    assert (crashed, not crashed) == (row["crashes"], row["lost"])


@pytest.mark.parametrize("most", [1, 2, 3, 5])
async def test_only_a_crash_alone_reaches_the_limit(database: str, most: int) -> None:
    """Crash after crash beside others a job comes to be one from the limit, to run alone; only that one reaches it."""
    told = []
    async with open_session(database) as session:
        (id,) = await insert(session, new_job())
        for _ in range(most + 2):
            await left_running(database, [id])
            async with session.transaction():
                (row,) = await take_expired(session, WORKER, 10, [], 0.0, (), most)
                await write_expired(session, {id: (row, Released())})
            told.append((row["crashes"], row["was_alone"]))
            if row["was_alone"]:
                break
    assert [(number, False) for number in range(1, max(most, 2))] + [(max(most, 2), True)] == told


async def test_who_asks_has_not_crashed(database: str) -> None:
    """A worker that finds its own claims over, its beats having failed, counts no crash: it lives."""
    async with open_session(database) as session:
        await insert(session, *new_jobs(1))
        await claim(session, lease=0.001)
        async with connect(database) as connection:
            await connection.execute("update jobqueue.job set lease_until = now() - interval '1 s'")
        (row,) = await rescue(session)
    assert (WORKER, False, 0, 1) == (row["worker_id"], row["crashed"], row["crashes"], row["lost"])


async def test_a_lease_means_the_clock_of_the_server(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4-65: a process whose clock is a day off takes no claim that holds and misses none that does not."""
    true_time = time.time
    async with open_session(database) as session:
        over, holds = await insert(session, *new_jobs(2))
        for skew in (86_400.0, -86_400.0):
            monkeypatch.setattr("time.time", lambda skew=skew: true_time() + skew)
            await left_running(database, [over], lease=OVER)
            await left_running(database, [holds], lease=HOLDS)
            assert {over} == ids(await rescue(session))
            assert [] == await rescue(session)


async def test_a_page_looks_past_what_it_must_skip(database: str) -> None:
    """Claims that others have locked, or that hold, never hide those behind them. (reliability A9)"""
    async with open_sessions(database, 2) as (session, other):
        holding = await insert(session, *new_jobs(2_000))
        await left_running(database, holding, lease=HOLDS)
        stale = await insert(session, *new_jobs(20))
        await left_running(database, stale)
        async with other.transaction():
            assert set(stale[:10]) == ids(await take_expired(other, WORKER, 10, [], 0.0))
            async with asyncio.timeout(PATIENCE):
                assert set(stale[10:]) == ids(await rescue(session, 10))
                assert [] == await rescue(session, 10)


async def test_a_page_has_its_limit_and_the_oldest_first(database: str) -> None:
    """No more than a page is taken at once, in the order in which the jobs became ready."""
    async with open_session(database) as session:
        stale = await insert(session, *new_jobs(25))
        await left_running(database, stale)
        pages = [ids(await rescue(session, 10)) for _ in range(4)]
    assert [set(stale[:10]), set(stale[10:20]), set(stale[20:]), set()] == pages


async def test_rescuers_at_once_take_each_claim_once(database: str) -> None:
    """Reliability A10: four rescuers share 1 000 stale claims; every one is taken back and counted exactly once."""

    async def sweep(session: Session) -> list[UUID]:
        mine: list[UUID] = []
        while rows := await rescue(session, 37):
            mine += [row["id"] for row in rows]
        return mine

    async with open_sessions(database, 4) as sessions, connect(database) as connection:
        stale = await insert(sessions[0], *new_jobs(1_000))
        await left_running(database, stale)
        taken = Counter(id for share in await asyncio.gather(*map(sweep, sessions)) for id in share)
        counted = await connection.fetchval(
            "select count(*) from jobqueue.job where state = 'ready' and crashes = 1 and lost = 0 and attempt = 0"
        )
    assert Counter(stale) == taken
    assert 1_000 == counted


async def test_a_rescue_and_a_finish_at_once_never_both_win(database: str) -> None:
    """S3-08, reliability A7: outcomes that come late, while the claims are being taken back, count or are refused."""
    async with open_sessions(database, 3) as (session, *others):
        for _ in range(15):
            await insert(session, *new_jobs(100))
            rows = await claim(session)
            async with connect(database) as connection:
                await connection.execute("update jobqueue.job set lease_until = now() - interval '1 s'")
            written, one, two = await asyncio.gather(
                finish(others[0], *reversed(rows)), rescue(others[1], 60), rescue(session, 60)
            )
            back = ids(one) | ids(two)
            assert not written & back
            assert {row["id"] for row in rows} == written | back
            async with connect(database) as connection:
                await connection.execute("delete from jobqueue.job")


async def test_after_the_server_starts_there_is_time_to_renew(database: str) -> None:
    """No lease counts as over for `settle` seconds after the server's start; a proven death does."""
    dead = await worker_row(database, ALIVE)
    async with open_session(database) as session:
        stale, proven = await insert(session, *new_jobs(2))
        await left_running(database, [stale])
        await left_running(database, [proven], dead, lease=HOLDS)
        assert {proven} == ids(await rescue(session, dead=[dead], settle=1e9))
        assert {stale} == ids(await rescue(session))


async def test_a_renewal_that_comes_first_keeps_the_claim(database: str) -> None:
    """R5: a claim that was renewed while the rescuer looked at it is not taken on the strength of its old lease."""
    async with open_session(database) as session, connect(database) as connection:
        stale = await insert(session, *new_jobs(2))
        await left_running(database, stale)
        renewal = connection.transaction()
        await renewal.start()
        await connection.execute("update jobqueue.job set lease_until = now() + interval '1 h' where id = $1", stale[0])
        assert {stale[1]} == ids(await rescue(session))
        await renewal.commit()
        assert [] == await rescue(session)


async def test_strays_are_given_back_unharmed(database: str) -> None:
    """What a worker's claims took without its knowledge is ready again, and nothing is counted against it."""
    other = WorkerId(uuid7())
    async with open_session(database) as session, connect(database) as connection:
        known, unknown, later, foreign = await insert(session, *new_jobs(4))
        for number in (1, 2, 3):
            await claim(session, 1, number=number)
        await left_running(database, [foreign], other)
        fences = [row["fence"] for row in await connection.fetch("select fence from jobqueue.job where id = $1", known)]

        assert 1 == await give_back_strays(session, WORKER, 2, fences)
        assert 0 == await give_back_strays(session, WORKER, 2, fences)
        running = {row["id"] for row in await connection.fetch("select id from jobqueue.job where state = 'running'")}
        row = await connection.fetchrow("select attempt, crashes, lost from jobqueue.job where id = $1", unknown)
    assert {known, later, foreign} == running
    assert row is not None
    assert (0, 0, 0) == tuple(row)


async def test_the_sleep_flags_of_the_dead_go_with_their_rows(database: str) -> None:
    """Flags of workers that are dead for a day go with their rows; before that they end by their own time."""
    alive, silent, dead = [await worker_row(database, each) for each in (ALIVE, SILENT, ALIVE)]
    forgotten = await worker_row(database, -90_000.0)
    async with open_session(database) as session, connect(database) as connection:
        add = "insert into jobqueue.sleeper values ($1, '*', now() - make_interval(secs => $2))"
        for worker, over in ((alive, 0), (silent, 0), (dead, 0), (forgotten, 90_000)):
            await connection.execute(add, worker, over)
        await workers.forget_dead(session, [dead])

        left = {row[0] for row in await connection.fetch("select worker_id from jobqueue.sleeper")}
        assert {alive, silent, dead} == left
        told = {row.id: row.alive for row in await workers.list_workers(session.database)}
    assert {alive: True, silent: False, dead: False} == told


async def test_rows_of_the_dead_stay_for_a_day(database: str) -> None:
    """Whoever asks what happened finds a dead worker's row for a day; then it goes."""
    recent, old = await worker_row(database, -80_000.0), await worker_row(database, -90_000.0)
    alive = await worker_row(database, ALIVE)
    async with open_session(database) as session:
        await workers.forget_dead(session, [])
        await workers.forget_dead(session, [old])
        assert {recent, alive} == {row.id for row in await workers.list_workers(session.database)}


async def test_workers_of_a_machine_are_found(database: str) -> None:
    """Only workers that registered from this very machine are named, with what tells their process from later ones."""
    here = await worker_row(database, 60, machine="boot pid:[1]", pid=77, born="123")
    await worker_row(database, 60, machine="boot pid:[2]", pid=77, born="123")
    await worker_row(database, 60)
    just = await worker_row(database, -1, machine="boot pid:[1]", pid=78, born="123")  # a claim of it may still commit
    await worker_row(database, -90, machine="boot pid:[1]", pid=79, born="123")  # beats no more: leases decide
    async with open_session(database) as session:
        found = await workers.on_machine(session, "boot pid:[1]")
        assert {Neighbour(here, 77, "123"), Neighbour(just, 78, "123")} == set(found)
        assert [] == await workers.on_machine(session, "elsewhere")


async def test_a_live_claim_is_left_alone(database: str) -> None:
    """S4-66: a claim as the library makes it holds its lease, also for a rescuer that has never heard of its worker."""
    async with open_session(database) as session:
        await insert(session, *new_jobs(3))
        rows = await claim(session, lease=LEASE)
        assert [] == await rescue(session)
        assert {row["id"] for row in rows} == await finish(session, *rows)
