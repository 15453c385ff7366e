"""Plans: whatever the planner knows or believes of a large table, no hot statement reads more of it than it must."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import LiteralString
from uuid import UUID

import psycopg
import pytest
from uuid_utils.compat import uuid7

from jobqueue.store.claims import EVERYTHING, Arm
from jobqueue.store.connection.joined import join
from jobqueue.worker.claiming import patrol as patrolling
from jobqueue.worker.claiming.marks import Marks
from jobqueue.worker.claiming.patrol import Patrol
from jobqueue.worker.claiming.queues import Queues
from jobqueue.worker.keeping import windows
from tests.support.jobs.store import open_session
from tests.support.postgres.database import Databases
from tests.support.postgres.full import COME_AND_GO, GONE
from tests.support.postgres.plans import Connection, Plan, run_learned, run_plan
from tests.support.waiting import wait_until

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
NOBODY = UUID(int=1)
CLAIMER = UUID("a2f1c0de-0000-4000-8000-000000000000")
LOWEST, HIGHEST, *EVERYWHERE = EVERYTHING
LOOKS_AT_KEYS = {"take_keys": 2, "take_keys over": 3}
"""How often a statement reads a key, if not once: is it over, and whose is it?"""


@pytest.fixture(scope="module")
def known(databases: Databases, filled: str) -> Iterator[str]:
    """The name of a database like `filled`, of which the planner knows all that is in it."""
    with databases.stocked(filled, "analyze jobqueue.job, jobqueue.job_key, jobqueue.job_archive") as name:
        yield name


@pytest.fixture(params=["unknown", "analysed"])
def either(request: pytest.FixtureRequest) -> str:
    """The name of a database of which the planner knows nothing, then of one of which it knows all."""
    return str(request.getfixturevalue({"unknown": "filled", "analysed": "known"}[request.param]))


@contextmanager
def clone(databases: Databases, template: str) -> Iterator[Connection]:
    """A connection to a copy."""
    with databases.temporary(template) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        for table in ("job", "job_key", "job_archive"):  # a new connection reads the catalog: not what is measured
            connection.execute(f"explain delete from jobqueue.{table} where md5({table}::text) = ''")
        yield connection


def cases(connection: Connection, size: int) -> dict[str, tuple[tuple[object, ...], set[str], float]]:
    """For each hot statement its arguments, the indexes of job that it may use, and the rows of job it may read."""
    running = connection.execute(
        "select id, fence from jobqueue.job where state = 'running' order by id limit %s", (size,)
    ).fetchall()
    ids, fences = [id for id, _ in running], [fence for _, fence in running]
    waiting = first_ids(connection, "job where state in ('ready', 'scheduled')", size)
    finished = first_ids(connection, "job_archive", size)
    held = [f"held{number}" for number in range(1, size + 1)]
    mixed = [*held[: size // 2], *(f"key{number}" for number in range(1, size - size // 2 + 1))]
    over = [f"over{number}" for number in range(1, size + 1)]
    none, no = [None] * size, [False] * size
    texts = [str(id) for id in ids]
    arms = [1, 3, 5, 7], [2, 4, 6, 8], [1, LOWEST] * 4, [HIGHEST, 0] * 4, [EVERYWHERE[0]] * 8, [EVERYWHERE[1]] * 8
    queues = ["q0", "q1", "q2", "absent"]
    claim = (NOBODY, 1, 20.0, queues, [size] * 4, size, size // 2, 1, *arms, ["unknown"], 60.0)
    back = (ids, fences, [0.0] * size, none, [0] * size, no, no, none, none, none, [0] * size, none, none, CLAIMER)
    return {
        "claim_jobs": (claim, {"job_ready", "job_suspect", "job_pkey"}, 2 * size),
        "renew_claims": ((CLAIMER, 20.0, 15.0, ids, fences, no), {"job_pkey"}, 4 * size),
        "any_expired": (([], 0.0, *EVERYWHERE), {"job_running"}, 2_000),
        "take_expired": ((NOBODY, size, [], 0.0, [], 3, *EVERYWHERE, []), {"job_running", "job_pkey"}, 2_000 + size),
        "finish_jobs": (
            (join(ids), join(fences), join(["completed"] * size), join(["1"] * size), None, None, CLAIMER),
            {"job_pkey"},
            2 * size,
        ),
        "write_progress": ((ids, fences, ["1"] * size, CLAIMER), {"job_pkey"}, 2 * size),
        "return_jobs": (back, {"job_pkey"}, 2 * size),
        "next_due": ((LONG_AGO,), {"job_due"}, 1),
        "promote_due": ((size, LONG_AGO), {"job_due", "job_pkey"}, 2 * size + 2),
        "promote_each": ((size, LONG_AGO), {"job_due_in_queue", "job_pkey"}, 2 * size + 20),
        "recall_aside": ((["aside", "absent"], size), {"job_aside", "job_pkey"}, 2 * size),
        "ready_between": ((*EVERYWHERE, ["unknown"], 60.0), {"job_ready", "job_suspect"}, 25),
        "find_job": ((ids[0], LONG_AGO), {"job_pkey"}, 1),
        "await_jobs": ((ids,), {"job_pkey"}, 3 * size),
        "strays": ((CLAIMER, 1, fences, *EVERYWHERE), {"job_running"}, 2_000),
        "already_returned": ((ids, fences, CLAIMER), {"job_pkey"}, size),
        "still_claimed": ((ids, fences, CLAIMER), {"job_pkey"}, size),
        "archived_ids": ((texts,), set(), 0),
        "already_finished": ((ids, fences, CLAIMER), set(), 0),
        "gone_jobs": ((ids[: size // 2] + finished[: size - size // 2],), {"job_pkey"}, size),
        "withdraw_jobs": ((texts, ["key1"]), {"job_pkey"}, size),
        "take_keys": ((mixed, texts, ["unfinished"] * size, none), {"job_pkey"}, size),
        "orphaned_keys": ((None, size), {"job_pkey"}, size),
        "take_keys over": ((over, texts, ["unfinished"] * size, none), {"job_pkey"}, size),
        "lock_holders": ((held,), {"job_pkey"}, size),
        "lock_late_holders": ((held,), {"job_pkey"}, 2 * size),
        "change_holders": (
            ([str(id) for id in waiting], ["{}"] * size, none, [True] * size, [5.0] * size, none, False),
            {"job_pkey"},
            2 * size,
        ),
        "known_ids": (([str(id) for id in ids[: size // 2] + finished[: size - size // 2]],), {"job_pkey"}, size),
        "ask_to_cancel": ((ids,), {"job_pkey"}, 2 * size),
        "change_waiting": ((waiting, 5.0, None, "q0", 1, True, False, False), {"job_pkey"}, 2 * size),
        "delete_waiting": ((waiting,), {"job_pkey"}, 2 * size),
        "are_bundled": ((ids[: size // 2] + finished[: size - size // 2], LONG_AGO), {"job_pkey"}, size),
        "where_are": ((ids[: size // 2] + finished[: size - size // 2], LONG_AGO), {"job_pkey"}, size),
        "queues_of": ((ids[: size // 2] + finished[: size - size // 2], LONG_AGO), {"job_pkey"}, size),
    }


def read_too_much(plan: Plan, name: str, case: tuple[tuple[object, ...], set[str], float], size: int) -> list[str]:
    """What a run of a statement should not have read."""
    _, indexes, rows = case
    read = {
        "job": (plan.rows_read("job") - plan.rows_read("job_"), rows),
        "job_archive": (plan.rows_read("job_archive"), size),
        "job_key": (plan.rows_read("job_key"), LOOKS_AT_KEYS.get(name, 1) * size),
        "pages": (plan.buffers, 200 + 45 * size),
    }
    wrong = [f"{found} of {place}, at most {most}" for place, (found, most) in read.items() if found > most]
    used = {index for index in plan.indexes() if not index.startswith(ELSEWHERE)}
    wrong += [f"by {index}" for index in sorted(used - indexes)]
    return wrong + [f"all of {table}" for table in whole_tables(plan) if table != "queue"]


def first_ids(connection: Connection, place: LiteralString, size: int) -> list[UUID]:
    found = connection.execute(f"select id from jobqueue.{place} order by id limit %s", (size,))
    return [id for (id,) in found]


def test_no_hot_statement_reads_the_table(databases: Databases, either: str) -> None:
    """S4-29: with 50 000 ready and 25 000 finished jobs, each statement finds its rows by the index meant for it."""
    with clone(databases, either) as connection:
        for size in (1, 50, 500):
            for name, case in cases(connection, size).items():
                for mode in ("custom", "generic"):
                    plan = run_plan(connection, name.split()[0], case[0], mode)
                    assert [] == read_too_much(plan, name, case, size), f"{name} of {size}, {mode} plan:\n{plan}"


KEEP = """
create table kept as select * from jobqueue.job;
create table kept_keys as select * from jobqueue.job_key;
truncate jobqueue.job, jobqueue.job_key;
"""
ANALYSE = "analyze jobqueue.job, jobqueue.job_key"
FILL_AGAIN = """
insert into jobqueue.job select * from kept;
insert into jobqueue.job_key select * from kept_keys;
"""


def empty(connection: Connection) -> None:
    """Analysed before the first job came."""
    connection.execute(ANALYSE)


def all_ready(connection: Connection) -> None:
    """Analysed before anything was scheduled or ran: such rows count as none."""
    connection.execute(
        "with first as (delete from kept where state = 'ready' returning *) insert into jobqueue.job table first"
    )
    connection.execute(ANALYSE)


def all_scheduled(connection: Connection) -> None:
    """Analysed when every job was scheduled, all of them due, in one queue."""
    connection.execute(
        "insert into jobqueue.job (task, state, via, due_at)"
        " select 'task', 'scheduled', 'py', now() - interval '1 h' from generate_series(1, 25000)"
    )
    connection.execute(ANALYSE)
    connection.execute("truncate jobqueue.job")


@pytest.mark.parametrize("mislead", [empty, all_ready, all_scheduled])
def test_wrong_statistics_turn_no_plan(
    databases: Databases, filled: str, mislead: Callable[[Connection], None]
) -> None:
    """Whatever the statistics say, each hot statement reads about as many rows as it is about."""
    with clone(databases, filled) as connection:
        connection.execute(KEEP)
        mislead(connection)
        connection.execute(FILL_AGAIN)
        wrong = []
        for size in (50, 500):
            for name, case in cases(connection, size).items():
                for mode in ("custom", "generic"):
                    plan = run_plan(connection, name.split()[0], case[0], mode)
                    wrong += [
                        f"{name} of {size}, {mode}: {what}\n{plan}" for what in read_too_much(plan, name, case, size)
                    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("name", "more"), [("delete_finished", ()), ("retry_finished", (False, False, False))])
def test_what_touches_history_finds_it_by_id(
    databases: Databases, either: str, name: str, more: tuple[object, ...]
) -> None:
    """S4-99, S4-57: deleting or retrying finished jobs reads neither the archive nor the keys from end to end."""
    with clone(databases, either) as connection:
        for size in (1, 50, 500):
            finished = first_ids(connection, "job_archive", size)
            for mode in ("custom", "generic"):
                plan = run_learned(connection, name, (finished, LONG_AGO, *more), mode, 200 + 80 * size)
                label = f"{name} of {size}, {mode} plan:\n{plan}"
                assert plan.rows_read("job_archive") <= 3 * size, label
                assert plan.rows_read("job_key") <= size, label
                assert not list(whole_tables(plan)), label
                assert plan.buffers <= 200 + 80 * size, label


DELIVERIES = """
insert into jobqueue.webhook (id, url, types, cursor) select gen_random_uuid(), 'https://receiver.example/', '{}', 0
  from generate_series(1, 20);
insert into jobqueue.job (queue, task, origin, via)
  select 'webhooks', 'jobqueue.webhook', 'webhook:' || w.id, 'py' from jobqueue.webhook w, generate_series(1, 150);
"""


def test_a_relay_counts_the_deliveries_of_one_webhook(databases: Databases, either: str) -> None:
    """How many wait is counted among them alone, up to the bound, beside 50 000 other jobs."""
    with clone(databases, either) as connection:
        connection.execute(DELIVERIES)
        (hook,) = first_ids(connection, "webhook", 1)
        for most, read in ((100, 100), (1_000, 150)):
            for mode in ("custom", "generic"):
                plan = run_plan(connection, "take_webhook", (hook, 10**9, most), mode)
                label = f"up to {most}, {mode} plan:\n{plan}"
                assert plan.rows_read("job") - plan.rows_read("job_") <= read, label
                assert "job_delivery" in plan.indexes(), label
                assert plan.buffers <= 200 + read, label


ELSEWHERE = ("job_archive", "job_key", "queue", "sleeper", "worker", "phase_pkey", "signal_pkey")


def whole_tables(plan: Plan) -> Iterator[str]:
    """The tables with rows in them that were read from end to end."""
    for node in plan.nodes():
        if node["Node Type"] == "Seq Scan" and node["Actual Rows"] + node.get("Rows Removed by Filter", 0):
            yield node["Relation Name"]


def test_the_size_of_the_archive_costs_a_claim_nothing(databases: Databases, full: str, filled: str) -> None:
    """S4-29: a claim or finish touches as many pages with 25 000 finished jobs as with none, at most twice as many."""
    with clone(databases, full) as connection:
        without = pages(connection)
    with clone(databases, filled) as connection:
        with_history = pages(connection)

    for name, touched in with_history.items():
        assert touched <= 2 * without[name], f"{name}: {without[name]} pages without history, {touched} with it"


def pages(connection: Connection) -> dict[str, int]:
    chosen = cases(connection, 200)
    return {
        name: run_plan(connection, name, chosen[name][0], "custom").buffers
        for name in ("claim_jobs", "finish_jobs", "return_jobs", "promote_due")
    }


async def test_beats_stay_in_their_page(database: str) -> None:
    """S4-30: renewing the leases of 2 000 running jobs ten times touches no index in at least 85 % of the updates."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("insert into jobqueue.job (task, via) select 'task', 'py' from generate_series(1, 2000)")
        connection.execute(
            "update jobqueue.job set state = 'running', fence = 1, attempt = 1, lease_until = now(), worker_id = %s",
            (NOBODY,),
        )
    await renew(database, rounds=3)  # the claims have filled the pages: now they settle
    every, hot = await updates_after(database, 8_000)
    await renew(database, rounds=10)
    now_every, now_hot = await updates_after(database, 28_000)

    assert 20_000 == now_every - every
    assert (now_hot - hot) / 20_000 >= 0.85, f"{now_hot - hot} of 20000"


async def renew(dsn: str, rounds: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(rounds):
            xid = connection.execute(
                "with beat as ("
                " update jobqueue.job set lease_until = clock_timestamp() where state = 'running' returning 1)"
                " select pg_current_xact_id()::text::bigint from (select count(*) from beat) as beats"
            ).fetchone()
            assert xid is not None
            # An older snapshot of this database keeps old versions from making room, and so does an older transaction
            # that writes, anywhere on the server: another test's too.
            await wait_until(partial(nobody_looks_back, connection, xid[0]), "older snapshots are gone")


def nobody_looks_back(connection: Connection, xid: int) -> bool:
    """No snapshot of this database, and no transaction that writes, is older than this one."""
    found = connection.execute(
        "select count(*) from pg_stat_activity"
        " where greatest(age(backend_xid), case when datname = current_database() then age(backend_xmin) end)"
        "   >= age(%s::text::xid) and pid <> pg_backend_pid()",
        (xid,),
    ).fetchone()
    return found == (0,)


async def updates_after(dsn: str, count: int) -> tuple[int, int]:
    """How many updates of job there were, and how many of them touched no index, once so many are in the statistics."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        await wait_until(lambda: updates(connection)[0] >= count, f"{count} updates are counted")
        return updates(connection)


def updates(connection: Connection) -> tuple[int, int]:
    found = connection.execute(
        "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relid = 'jobqueue.job'::regclass"
    ).fetchone()
    assert found is not None
    return int(found[0]), int(found[1])


@pytest.fixture(scope="module")
def haunted_dsn(databases: Databases, template: str) -> Iterator[str]:
    """Behind an old snapshot: 40 000 jobs of two queues and five priorities are gone; a worker slept 10 000 times."""
    with (
        databases.temporary(template) as dsn,
        psycopg.connect(dsn) as old,
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        old.execute("set transaction isolation level repeatable read")
        old.execute("select count(*) from jobqueue.job")
        connection.execute(COME_AND_GO)
        yield dsn


@pytest.fixture(scope="module")
def haunted(haunted_dsn: str) -> Iterator[Connection]:
    """A connection there."""
    with psycopg.connect(haunted_dsn, autocommit=True) as connection:
        yield connection


def worked_off(newest: int) -> Marks:
    """The marks of a worker that has seen all jobs up to this one go."""
    marks = Marks()
    marks.tell(newest, now=1.0)
    tops = {(queue, priority): newest for queue in ("q0", "q1") for priority in range(5)}
    marks.learn(tops, emptied=["q0", "q1"], sent=10.0)
    return marks


def claim_of(arms: list[Arm]) -> tuple[object, ...]:
    columns = [list(column) for column in zip(*arms, strict=True)]
    return (NOBODY, 1, 20.0, ["q0"], [50], 50, 50, 1, [1], [len(arms)], *columns, [], 60.0)


def both_plans(connection: Connection, name: str, values: tuple[object, ...]) -> dict[str, Plan]:
    return {mode: run_plan(connection, name, values, mode) for mode in ("custom", "generic")}


def test_who_was_there_steps_over_nothing(haunted: Connection) -> None:
    """A claim, a patrol, a promotion and a rescue that go on from where they were touch few pages."""
    marks = worked_off(GONE)
    seen = haunted.execute("select now() - interval '1 minute'").fetchone()
    assert seen is not None
    looks = {
        "claim_jobs": claim_of(marks.arms("q0")),
        "ready_between": (GONE, EVERYTHING[3], [], 60.0),
        "next_due": (seen[0],),
        "promote_due": (100, seen[0]),
        "any_expired": ([], 0.0, GONE, EVERYTHING[3]),
        "take_expired": (NOBODY, 500, [], 0.0, [], 3, GONE, EVERYTHING[3], []),
        "strays": (NOBODY, 1, [], GONE, EVERYTHING[3]),
    }
    for name, values in looks.items():
        for mode, plan in both_plans(haunted, name, values).items():
            # Versions before 18 may read an index, which has some hundred pages; no table.
            most = 500 if name == "next_due" else 2_000
            assert plan.buffers <= most, f"{name}, {mode}: {plan.buffers} pages\n{plan}"


async def test_a_young_worker_steps_over_nothing(
    haunted_dsn: str, haunted: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first look goes down by pieces; a claim looks at the first one, and farther down where jobs are ready."""
    monkeypatch.setattr(windows, "_FIRST_WIDTH", 1_000)
    monkeypatch.setattr(patrolling, "_CHEAP", 0.0)
    marks = Marks()
    async with open_session(haunted_dsn) as session:
        await Patrol(Queues(None), marks).walk(session, (), 60.0)

    for mode, plan in both_plans(haunted, "claim_jobs", claim_of(marks.arms("q0"))).items():
        assert plan.buffers <= 2_000, f"{mode}: {plan.buffers} pages\n{plan}"
        assert 50 == plan.root["Actual Rows"]


DIED = """
insert into jobqueue.worker (id, app, host, pid, version, queues, concurrency, alive_until)
values (%s, 'tests', 'elsewhere', 1, '0', '{*}', 1, now() - interval '1 minute')
"""


def test_who_slept_before_costs_nothing(haunted: Connection) -> None:
    """Jobs are deferred, and a worker falls asleep and wakes up, as if nobody had ever slept."""
    asleep: dict[str, tuple[object, ...]] = {
        "insert_job": (str(uuid7()), "q0", "task", "{}", 0, *[None] * 2, 1, *[None] * 5, False, False),
        "publish_sleep": (NOBODY, ["*"], 5.0),
        "end_sleep": (NOBODY, ["*"]),
        "forget_dead_workers": ([NOBODY], 86_400.0),
    }
    with haunted.transaction(force_rollback=True):
        haunted.execute(DIED, [NOBODY])
        for name, values in asleep.items():
            plans = [run_learned(haunted, name, values, mode, most=30) for mode in ("custom", "generic")]
            assert max(plan.whole for plan in plans) <= 30, f"{name}:\n{plans[0]}\n{plans[1]}"


def test_who_looks_at_everything_pays_for_everything(haunted: Connection) -> None:
    """The same looks from the beginning do walk over what has gone: else the other test would show nothing."""
    looks = {
        "claim_jobs": claim_of([EVERYTHING]),
        "ready_between": (*EVERYTHING[2:], [], 60.0),
        "next_due": (datetime(2020, 1, 1, tzinfo=UTC),),
        "promote_due": (100, datetime(2020, 1, 1, tzinfo=UTC)),
        "any_expired": ([], 0.0, *EVERYTHING[2:]),
        "take_expired": (NOBODY, 500, [], 0.0, [], 3, *EVERYTHING[2:], []),
    }
    for name, values in looks.items():
        for mode, plan in both_plans(haunted, name, values).items():
            assert plan.buffers > 1_000, f"{name}, {mode}: {plan.buffers} pages\n{plan}"


def test_a_patrol_pays_for_its_piece(haunted: Connection) -> None:
    """What a piece of the patrol costs follows its width, not all that has gone."""
    narrow = both_plans(haunted, "ready_between", (GONE // 2, GONE // 2 + 5_000, [], 60.0))["custom"].buffers
    wide = both_plans(haunted, "ready_between", (0, GONE, [], 60.0))["custom"].buffers

    assert 4 * narrow < wide


READY_AGAIN = """
insert into jobqueue.job (queue, task, priority, via)
  select 'q' || n % 2, 'task', n % 5, 'py' from generate_series(1, 10000) n;
analyze jobqueue.job;
update pg_class set reltuples = 0
  where relnamespace = 'jobqueue'::regnamespace and relname in ('job', 'job_ready');
"""


def test_a_backlog_after_a_drain_is_not_read_from_end_to_end(haunted: Connection) -> None:
    """Vacuumed when all had gone, behind an old snapshot, which keeps the pages: a look reads what it needs."""
    found = haunted.execute("select last_value from jobqueue.job_seq").fetchone()
    assert found is not None
    newest = found[0]
    looks = {"claim_jobs": claim_of(worked_off(newest).arms("q0")), "ready_between": (newest, EVERYTHING[3], [], 60.0)}
    with haunted.transaction(force_rollback=True):
        haunted.execute(READY_AGAIN)
        for name, values in looks.items():
            for mode, plan in both_plans(haunted, name, values).items():
                assert plan.rows_read("job") - plan.rows_read("job_") <= 400, f"{name}, {mode}:\n{plan}"
