"""Whatever moves a job that has gates keeps the books right: each statement puts it in line, or leaves it there."""

from datetime import timedelta

import asyncpg
import pytest

from jobqueue.base.job import JobState
from jobqueue.base.outcome import Dead, Suspended
from jobqueue.base.steering import Action, Change
from jobqueue.store import claims, steering
from jobqueue.store.flows import limits
from jobqueue.store.flows.dependencies import START, heal_dependencies
from jobqueue.store.flows.signals import send_signal
from jobqueue.store.looking.lookup import find_job
from tests.support.jobs.blocked import block
from tests.support.jobs.gates import declare_limit, in_line, limited, look, states, wrong_with_gates
from tests.support.jobs.store import claim, claim_one, connect, finish, insert, open_session


async def test_what_is_rescheduled_lines_up_anew(database: str) -> None:
    """Another time gives a place up; now it means the end of the line; later, no line before its time."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        ready, second, third = await insert(session, *(limited("smtp") for _ in range(3)))
        await look(session)
        await steering.change(session, Action.RESCHEDULE, [ready], delay=0.0)
        await steering.change(session, Action.RESCHEDULE, [third], delay=100.0)
        await look(session)
        expected = [("blocked", 0, "smtp"), ("ready", 1, None), ("scheduled", 0, None)]
        assert expected == await states(connection, [ready, second, third])
        assert {ready: Change.BUSY} == await steering.retry(session, [ready])
        assert [] == await wrong_with_gates(connection)


async def test_a_priority_counts_in_line(database: str) -> None:
    """Who has a place keeps it with another priority; who stands in line stands in another place of it."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        first, second, third = await insert(session, *(limited("smtp") for _ in range(3)))
        await look(session)
        assert {first: Change.DONE, third: Change.DONE} == await steering.change(
            session, Action.SET_PRIORITY, [first, third], priority=5
        )
        assert [third, second] == await in_line(connection, "smtp")
        assert ("ready", 1, None) == (await states(connection, [first]))[0]
        assert [] == await wrong_with_gates(connection)


@pytest.mark.parametrize("waiting", ["in line", "ready"])
async def test_what_replaces_and_moves_lines_up_anew(database: str, waiting: str) -> None:
    """A job that is moved by another with its unique key gives its place up."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        ids = await insert(session, limited("smtp", key="k"), limited("smtp", key="other"))
        await look(session)
        key, moved = ("k", ids[0]) if waiting == "ready" else ("other", ids[1])
        await insert(session, limited("smtp", key=key, on_conflict="replace+move", delay=100.0))
        assert [("scheduled", 0, None)] == await states(connection, [moved])
        await insert(session, limited("smtp", key=key, on_conflict="replace+move"))
        assert [("blocked", 0, "smtp")] == await states(connection, [moved])
        await insert(session, limited("smtp", key=key, on_conflict="replace", args='{"n": 1}'))
        assert [("blocked", 0, "smtp")] == await states(connection, [moved])
        assert [] == await wrong_with_gates(connection)


async def test_what_comes_back_from_the_archive_lines_up(database: str) -> None:
    """A dead job that is retried passes its gates once more."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        (id,) = await insert(session, limited("smtp"))
        await look(session)
        await finish(session, await claim_one(session), outcome=Dead("fatal"))
        ended = await find_job(session.database, id)
        assert ended is not None and (JobState.DEAD, ("smtp",), None) == (ended.state, ended.gates, ended.waits_for)
        assert {id: Change.DONE} == await steering.retry(session, [id])
        found = await find_job(session.database, id)
        assert found is not None and ("smtp",) == found.gates and "smtp" == found.waits_for
        await look(session)
        assert id == (await claim_one(session))["id"]
        assert [] == await wrong_with_gates(connection)


async def test_one_that_waits_for_others_lines_up_after_them(database: str) -> None:
    """First its dependencies, then its gates; and what stands at a gate is never healed out of it."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        free, standing = await insert(session, limited("smtp"), limited("smtp"))
        await block(connection, free)
        await connection.execute("update jobqueue.job set gate = null where id = $1", free)
        healed = await heal_dependencies(session, START)
        assert 1 == healed.released
        assert [("blocked", 0, "smtp")] * 2 == await states(connection, [free, standing])
        assert 0 == (await heal_dependencies(session, START)).released
        await look(session)
        assert 1 == len(await claim(session))
        assert [] == await wrong_with_gates(connection)


async def test_a_sleeping_job_holds_no_place(database: str) -> None:
    """A job that waits for a signal gives its place up, and lines up anew when it is woken."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        first, second = await insert(session, limited("smtp"), limited("smtp"))
        await look(session)
        row = await claim_one(session)
        later = claims.moment_of(row["claimed_at"]) + timedelta(hours=1)
        await finish(session, row, outcome=Suspended(later, 0))
        await look(session)
        assert [("scheduled", 0, None), ("ready", 1, None)] == await states(connection, [first, second])
        await connection.execute(
            "insert into jobqueue.phase (job_id, name, kind, signal, place, attempt, fence, began_at)"
            " values ($1, 'w', 'wait', 'go', 1, 1, 1, now())",
            first,
        )
        assert "done" == await send_signal(session, first, "go", "1", 1000)
        assert [("blocked", 0, "smtp")] == await states(connection, [first])
        await finish(session, await claim_one(session))
        await look(session)
        assert first == (await claim_one(session))["id"]
        assert [] == await wrong_with_gates(connection)


async def test_nobody_leaves_a_line_by_chance(database: str) -> None:
    """A statement that knows nothing of lines, of a worker of older code perhaps, cannot let a job past its gate."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        (id,) = await insert(session, limited("smtp"))
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("update jobqueue.job set state = 'ready'")
        assert [("blocked", 0, "smtp")] == await states(connection, [id])


async def test_rows_deleted_by_hand_give_their_places_up(database: str) -> None:
    """A plain `delete from job` leaves nothing held."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 2)
        await insert(session, *(limited("smtp") for _ in range(5)))
        await look(session)
        await claim_one(session)
        await connection.execute("delete from jobqueue.job where passed > 0")
        assert [] == await wrong_with_gates(connection)
        assert 2 == (await look(session)).ready
        assert [] == await wrong_with_gates(connection)


async def test_a_paused_queue_gives_its_places_to_others(database: str) -> None:
    """Jobs of a paused queue that have not begun give their places up, and get none, until it is resumed."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 2)
        paused = await insert(session, *(limited("smtp", queue="paused") for _ in range(3)))
        others = await insert(session, *(limited("smtp", queue="other") for _ in range(3)))
        await look(session)
        await steering.pause_queue(session, "paused", None, None)
        await look(session)
        assert others[:2] == [row["id"] for row in await claim(session, queues=["other"])]
        assert [paused[2], others[2], *paused[:2]] == await in_line(connection, "smtp")
        await connection.execute("delete from jobqueue.job where queue = 'other'")
        await steering.resume_queue(session, "paused")
        await look(session)
        assert [paused[2], paused[0]] == [row["id"] for row in await claim(session, queues=["paused"])]
        assert [] == await wrong_with_gates(connection)


async def test_a_crowd_of_a_paused_queue_is_passed_by(database: str) -> None:
    """Very many jobs of a paused queue at the head of a line hold up nobody of another queue."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        await steering.pause_queue(session, "paused", None, None)
        await connection.execute(
            "insert into jobqueue.job (queue, task, state, via, gates, gate)"
            " select 'paused', 't', 'blocked', 'py', '{smtp}', 'smtp' from generate_series(1, 5000)"
        )
        ids = await insert(session, limited("smtp", queue="other"))
        assert 1 == (await look(session)).ready
        assert [("ready", 1, None)] == await states(connection, ids)


async def test_plain_sql_names_its_limits(database: str) -> None:
    """`defer(limits => ...)` puts a job in line, in the order of the library; what it cannot be is refused."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        await declare_limit(session, "api", None, count=10, per=60.0)
        defer = "select jobqueue.defer('t', limits => $1)"
        first = await connection.fetchval(defer, '["api", "smtp", ["smtp", "a"]]')
        found = await find_job(session.database, first)
        assert found is not None and ("smtp\na", "smtp", "~api") == found.gates
        await look(session)
        assert [("ready", 3, None)] == await states(connection, [first])
        plain = await connection.fetchval(defer, "[]")
        assert [("ready", 0, None)] == await states(connection, [plain])
        for wrong in ('["nobody"]', '{"smtp": 1}', "3", '["smtp", "smtp", "smtp", "smtp", "smtp"]', "[[]]"):
            with pytest.raises(Exception, match=r"limits: must be"):
                await connection.fetchval(defer, wrong)


async def test_a_recount_mends_what_was_changed_past_the_triggers(database: str) -> None:
    """Places that somebody has taken or lost with triggers off are counted anew, and the line goes on."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 2)
        await insert(session, *(limited("smtp") for _ in range(4)))
        await look(session)
        await connection.execute("set session_replication_role = replica")
        await connection.execute("delete from jobqueue.job where state = 'ready'")
        await connection.execute("set session_replication_role = origin")
        assert 0 == (await look(session)).ready
        assert 1 == await limits.recount(session, "smtp")
        assert 2 == (await look(session)).ready
        assert 0 == await limits.recount(session, "smtp")
        assert [] == await wrong_with_gates(connection)


async def test_idle_gates_go(database: str) -> None:
    """Gates that nobody holds or waits at are removed after a while, and are made again when somebody comes."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        await insert(session, *(limited(f"smtp\n{key}") for key in "abca"))
        await look(session)
        await finish(session, *(await claim(session))[1:])
        await look(session)
        assert "smtp\nb" == await limits.forget_gates(session, "", 2, 0.0)
        assert await limits.forget_gates(session, "smtp\nb", 2, 0.0) is None
        gates = [row["name"] for row in await connection.fetch("select name from jobqueue.gate")]
        assert ["smtp\na"] == gates
        await insert(session, limited("smtp\nb"))
        assert 1 == (await look(session)).ready


async def test_lines_that_nobody_would_look_at_are_found(database: str) -> None:
    """A line without a note, which only somebody past the triggers can have left, gets one; page by page."""
    async with open_session(database) as session, connect(database) as connection:
        await declare_limit(session, "smtp", 1)
        await insert(session, *(limited(f"smtp\n{key}") for key in "abc"))
        await connection.execute("delete from jobqueue.gate_note")
        assert 0 == (await look(session)).ready
        assert "smtp\nb" == await limits.note_lines(session, "", 2)
        assert await limits.note_lines(session, "smtp\nb", 2) is None
        assert 3 == (await limits.admit(session, 1_000, 0.3)).ready


async def test_stats_say_who_holds_and_who_waits(database: str) -> None:
    """A limit says what was declared and changed, how many hold a place and wait, and for which key most do."""
    async with open_session(database) as session:
        await declare_limit(session, "smtp", 2)
        await declare_limit(session, "smtp-x", None, count=5, per=1.0)
        await insert(session, *(limited(f"smtp\n{key}") for key in "aaaab"))
        await limits.change(session, "smtp", {"concurrency": 3})
        await look(session)
        smtp, other = await limits.read_limits(session)
        assert (3, 2, {"concurrency": 3}) == (smtp.row.concurrency, smtp.declared.concurrency, smtp.changed)
        assert (4, 1, 1) == (smtp.held, smtp.waiting, smtp.gates)
        assert (None, 5, 1.0, 0) == (other.row.concurrency, other.row.count, other.row.per, other.waiting)
        lines = await limits.lines(session, "smtp", 10)
        assert [("a", 3, 1), ("b", 1, 0)] == [(line.key, line.held, line.waiting) for line in lines]
        assert ["b"] == [line.key for line in await limits.lines(session, "smtp", 10, "b")]
        assert [] == await limits.declare(session, [other.row], "tests")
        assert 0 <= await limits.note_age(session)
