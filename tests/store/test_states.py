"""What the database itself refuses: combinations that must not be, and names out of their limits."""

import asyncpg
import pytest

from jobqueue.base.errors import InvalidOption
from jobqueue.base.names import check_name
from jobqueue.store.connection.session import Session
from jobqueue.store.intake import insert_all
from jobqueue.store.looking.listing import Wanted, list_jobs
from jobqueue.store.looking.lookup import find_job
from jobqueue.store.schema.statements import channel
from tests.support.jobs.store import (
    Connection,
    claim,
    connect,
    finish,
    new_job,
    open_session,
    ready_queues,
)
from tests.support.waiting import wait_until

WORKER = "'01900000-0000-7000-8000-000000000001'"
CLAIM = f"state = 'running', fence = 1, worker_id = {WORKER}, lease_until = now()"


async def set_on_job(connection: Connection, change: str) -> None:
    await connection.execute("truncate jobqueue.job")
    await connection.execute("insert into jobqueue.job (task) values ('task')")
    await connection.execute(f"update jobqueue.job set {change}")


async def test_impossible_jobs_are_refused(database: str) -> None:
    """S1-02: an unfinished job has an unfinished state; a claim is whole or absent; counters and limits make sense."""
    wrong = {
        "state = 'completed'": "job_state_known",
        "state = 'dead'": "job_state_known",
        "state = 'READY'": "job_state_known",
        "state = 'running'": "job_claim_whole",
        CLAIM.replace("fence = 1", "fence = 0"): "job_claim_whole",
        CLAIM.replace(WORKER, "null"): "job_claim_whole",
        CLAIM.replace("now()", "null"): "job_claim_whole",
        "fence = 5": "job_claim_whole",
        f"worker_id = {WORKER}": "job_claim_whole",
        "lease_until = now()": "job_claim_whole",
        CLAIM.replace("running", "scheduled"): "job_claim_whole",
        "attempt = -1": "job_attempts_sane",
        "max_attempts = 0": "job_attempts_sane",
        "max_attempts = 32768": "job_attempts_sane",
        "crashes = -1": "job_attempts_sane",
        "lost = -1": "job_attempts_sane",
        "timeout = 0": "job_timeout_positive",
        "args = '[]'": "job_args_object",
        "args = 'null'": "job_args_object",
    }
    async with connect(database) as connection:
        await set_on_job(connection, CLAIM)
        await set_on_job(connection, "state = 'blocked'")
        for change, rule in wrong.items():
            with pytest.raises(asyncpg.CheckViolationError) as refused:
                await set_on_job(connection, change)
            assert rule == refused.value.constraint_name, change


async def test_what_every_job_has_cannot_be_taken_away(database: str) -> None:
    """S1-02: no job without id, queue, task, arguments, state, due time and place."""
    async with connect(database) as connection:
        for column in ("id", "queue", "task", "args", "state", "due_at", "seq", "created_at"):
            with pytest.raises(asyncpg.NotNullViolationError):
                await set_on_job(connection, f"{column} = null")


async def test_impossible_finished_jobs_are_refused(database: str) -> None:
    """S1-02, S3-19: a job in the archive has a final state and a finish time, and a result if and only if completed."""
    columns = (
        "id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost, fence, via, follow,"
        " created_at, finished_at, result"
    )
    values = "gen_random_uuid(), 'q', 't', '{}', 0, 'completed', now(), 1, 1, 0, 0, 1, 'py', 0, now(), now(), '1'"
    wrong: dict[str, type[Exception]] = {
        values.replace("now(), now()", "now(), null"): asyncpg.PostgresError,
        values.replace("'completed'", "'ready'"): asyncpg.CheckViolationError,
        values.replace("'completed'", "'running'"): asyncpg.CheckViolationError,
        values.replace("'completed'", "'dead'"): asyncpg.CheckViolationError,
        values.replace("'1'", "null"): asyncpg.CheckViolationError,
    }
    async with connect(database) as connection:
        await connection.execute(f"insert into jobqueue.job_archive ({columns}) values ({values})")
        for row, error in wrong.items():
            with pytest.raises(error):
                await connection.execute(f"insert into jobqueue.job_archive ({columns}) values ({row})")
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("update jobqueue.job_archive set finished_at = null")
        assert 1 == await connection.fetchval("select count(*) from jobqueue.job_archive where finished_at is not null")


async def test_names_have_1_to_100_characters_in_both_places(database: str) -> None:
    """S4-03: empty names and names of 101 characters are refused at the API and by the database, 100 are taken."""
    async with connect(database) as connection:
        for column in ("queue", "task", "origin"):
            for good in ("x", "x" * 100, "ä" * 100, "🐘" * 100):
                assert good == check_name(column, good)
                await set_on_job(connection, f"{column} = '{good}'")
            for bad in ("", "x" * 101, "🐘" * 101):
                with pytest.raises(InvalidOption, match=rf"^{column}: must have 1 to 100 characters"):
                    check_name(column, bad)
                with pytest.raises(asyncpg.CheckViolationError) as refused:
                    await set_on_job(connection, f"{column} = '{bad}'")
                assert f"job_{column}_length" == refused.value.constraint_name


async def test_a_key_and_a_queue_have_limits_as_well(database: str) -> None:
    """S4-03: keys have 1 to 250 characters, names of queues 1 to 100; a period's key has an end, others have none."""
    async with connect(database) as connection:
        for wrong in (
            "update jobqueue.job set key = ''",
            "update jobqueue.job set key = repeat('x', 251)",
            "insert into jobqueue.queue (name) values ('')",
            "insert into jobqueue.queue (name) values (repeat('x', 101))",
            "insert into jobqueue.job_key values ('k', gen_random_uuid(), 'forever', null)",
            "insert into jobqueue.job_key values ('k', gen_random_uuid(), 'period', null)",
            "insert into jobqueue.job_key values ('k', gen_random_uuid(), 'waiting', now())",
        ):
            await set_on_job(connection, "priority = 0")
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(wrong)


ODD_NAMES = [
    "it's",
    'say "hi"',
    "; drop table jobqueue.job; --",
    "100%s %d %(x)s {0} {x}",
    "$1 $$ :\"schema\" :'wake_channel'",
    "naïve 🐘 名前 \u202e",
    "two\nlines\tand a tab",
    "back\\slash '\\''",
    "*",
    " ",
    "x" * 100,
    "🐘" * 100,
]


async def test_odd_names_are_only_data(database: str) -> None:
    """S3-04, S4-24: quotes, semicolons, percent signs and the like in names, keys and texts do nothing else."""
    heard: list[str] = []
    async with open_session(database) as session, connect(database) as listener:
        await listener.add_listener(channel("jobqueue", "wake"), lambda *said: heard.append(str(said[-1])))
        for name in ODD_NAMES:
            await follow(name, session, listener, heard)


async def follow(name: str, session: Session, listener: Connection, heard: list[str]) -> None:
    """Go the way of one job whose every text is this name."""
    heard.clear()
    job = new_job(name, queue=name, origin=name, key=name + name)
    (sent,) = await insert_all(session, [job], always=True)
    assert [name] == await ready_queues(session)
    await wait_until(lambda: heard, "the queue's workers are woken")
    assert [f"r:{name}"] == heard

    (row,) = await claim(session, queues=[name])
    assert (job.id, name, name, name, name + name) == (
        sent.id, row["task"], row["queue"], row["origin"], row["key"]
    )  # fmt: skip
    listed = await list_jobs(session, Wanted(queue=name, task=name, origin=name), after=None, limit=5)
    assert [job.id] == [found.id for found in listed]

    assert {job.id} == await finish(session, row)
    stored = await find_job(session.database, job.id)
    assert stored is not None
    assert (name, name, name) == (stored.task, stored.queue, stored.origin)
    assert 0 == await listener.fetchval("select count(*) from jobqueue.job")
    assert 0 == await listener.fetchval("select count(*) from jobqueue.job_key")
