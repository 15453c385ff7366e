"""Plans: very many jobs that wait for others cost no look and no stager anything, and are steered by their ids."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.plans import DRAINED, Connection, Plan, assert_none_dear, run_learned

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
HIGHEST = UUID(int=2**128 - 1)
FAN_IN = UUID(int=5)
"""A job that came after 5 000 others."""
OURS = {"job", "job_key", "dependency", "node"}
BLOCKED = f"""
alter table jobqueue.dependency set (autovacuum_enabled = false);
alter table jobqueue.node set (autovacuum_enabled = false);
insert into jobqueue.job (queue, task, priority, state, via, due_at)
  select 'after' || n % 50, 'task', n % 3, 'blocked', 'py', now() - interval '1 h' from generate_series(1, 50000) n;
insert into jobqueue.job (id, task, state, via) values ('{FAN_IN}', 'report', 'blocked', 'py');
insert into jobqueue.job_key (key, job_id, scope)
  select 'blocked' || row_number() over (order by id), id, 'unfinished'
  from (select id from jobqueue.job where state = 'blocked' and id <> '{FAN_IN}' limit 1000) as few;
insert into jobqueue.dependency (on_id, job_id)
  select gen_random_uuid(), id from jobqueue.job where state = 'blocked' and id <> '{FAN_IN}';
insert into jobqueue.dependency (on_id, job_id)
  select id, '{FAN_IN}' from (select id from jobqueue.job where state = 'ready' limit 4950) as few;
insert into jobqueue.dependency (on_id, job_id)
  select id, '{FAN_IN}' from (select id from jobqueue.job_archive limit 50) as few;
insert into jobqueue.node (bundle_id, job_id, task, after)
  select gen_random_uuid(), id, task, '{{}}' from jobqueue.job where state = 'ready' limit 25000;
insert into jobqueue.node (bundle_id, job_id, task, after)
  select gen_random_uuid(), '{FAN_IN}', 'report', array_agg(on_id) from jobqueue.dependency where job_id = '{FAN_IN}';
"""


@pytest.fixture(scope="module")
def blocked(databases: Databases, filled: str) -> Iterator[str]:
    """The name of a database with 50 000 jobs that wait for others, beside as many others and a history."""
    with databases.stocked(filled, BLOCKED) as name:
        yield name


def cases(connection: Connection) -> dict[str, tuple[tuple[object, ...], int, set[str]]]:
    """Each statement with its arguments, the rows of job that it may read, and the indexes of job that it may use."""
    found = connection.execute("select id from jobqueue.job where state = 'blocked' order by id limit 500").fetchall()
    ids = [id for (id,) in found]
    keys = [f"blocked{number}" for number in range(1, 501)]
    texts, none = [str(id) for id in ids], [None] * 500
    return {
        "change_waiting": ((ids, 5.0, None, "q0", 1, True, False, False), 1_000, {"job_pkey"}),
        "change_waiting to nothing": ((ids, 0.0, None, None, None, False, False, False), 500, {"job_pkey"}),
        "lock_holders": ((keys,), 1_000, {"job_pkey"}),
        "lock_late_holders": ((keys,), 1_000, {"job_pkey"}),
        "change_holders": ((texts, none, none, [True] * 500, [5.0] * 500, none, False), 1_000, {"job_pkey"}),
        "promote_each": ((500, LONG_AGO), 1_100, {"job_due_in_queue", "job_pkey"}),
        "promote_each of nothing": ((500, datetime(2100, 1, 1, tzinfo=UTC)), 10, {"job_due_in_queue", "job_pkey"}),
        "promote_due": ((500, LONG_AGO), 1_002, {"job_due", "job_pkey"}),
        "look_in_states": ((HIGHEST, 20_000, 50, ["blocked"], None, None, None, None), 20_000, {"job_blocked"}),
        "look_in_states of ready": (
            (HIGHEST, 20_000, 50, ["ready"], None, None, None, None),
            20_000,
            {"job_ready", "job_suspect"},
        ),
        "waits_for": ((FAN_IN, 5), 5_000, {"job_pkey"}),
        "waits_for one": ((ids[1], 5), 1, {"job_pkey"}),
    }


def pages(most: int) -> int:
    """How many it may touch for so many rows."""
    return 500 + 45 * most


def read_too_much(plan: Plan, most: int, indexes: set[str]) -> list[str]:
    """What it should not have read."""
    read = plan.rows_read("job") - plan.rows_read("job_")
    wrong = [f"{read} jobs, at most {most}"] if read > most else []
    wrong += [f"{plan.buffers} pages"] if plan.buffers > pages(most) else []
    used = {index for index in plan.indexes() if index.startswith("job_")}
    wrong += [f"by {index}" for index in sorted(used - indexes) if not index.startswith(("job_archive", "job_key"))]
    for node in plan.nodes():
        table = str(node.get("Relation Name", ""))
        if node["Node Type"] == "Seq Scan" and node["Actual Loops"] and table in OURS:
            wrong.append(f"all of {table}")
    return wrong


@pytest.mark.parametrize("analysed", [False, True], ids=["unknown", "analysed"])
def test_what_waits_for_others_is_in_nobody_s_way(databases: Databases, blocked: str, analysed: bool) -> None:
    """Steering, keys, looks and promotion find their rows by the index meant for it, whatever the planner knows."""
    wrong = []
    with databases.temporary(blocked) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        if analysed:
            connection.execute("analyze")
        for name, (values, most, indexes) in cases(connection).items():
            for mode in ("custom", "generic"):
                plan = run_learned(connection, name.split()[0], values, mode, pages(most))
                wrong += [f"{name}, {mode}: {what}\n{plan}\n" for what in read_too_much(plan, most, indexes)]
        connection.execute(DRAINED)
        values, most, _ = cases(connection)["lock_late_holders"]
        assert_none_dear(connection, {"lock_late_holders": (values, pages(most))})
    assert not wrong, "\n".join(wrong)
