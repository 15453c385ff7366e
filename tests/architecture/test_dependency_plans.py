"""Plans of dependencies: jobs that come after others, 10 000 of them and a fan-out, beside 80 000 that do not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.plans import DRAINED, Cases, Connection, Plan, assert_none_dear

BUNDLE = "00000000-0000-7000-8000-00000000f00d"
WAITING = f"""
alter table jobqueue.node set (autovacuum_enabled = false);
alter table jobqueue.dependency set (autovacuum_enabled = false);
alter table jobqueue.fact set (autovacuum_enabled = false);
insert into jobqueue.bundle (id, name, added) values ('{BUNDLE}', 'graph', 20000);
insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
  fence, via, follow, created_at, finished_at, result, bundle_id)
select lpad(to_hex(n), 32, '0')::uuid, 'q', 'task', '{{}}', 0, case n % 10 when 9 then 'dead' else 'completed' end,
  now(), 1, 1, 0, 0, n, 'py', 2, now(), now(), case when n % 10 <> 9 then '1'::json end, '{BUNDLE}'
  from generate_series(1, 5000) n;
insert into jobqueue.job (id, queue, task, state, via, bundle_id, follow)
select lpad(to_hex(n), 32, '0')::uuid, 'w' || n % 3, 'task', 'blocked', 'py', '{BUNDLE}', 2
  from generate_series(10001, 20000) n;
insert into jobqueue.node (bundle_id, job_id, task) select '{BUNDLE}', lpad(to_hex(n), 32, '0')::uuid, 'task'
  from generate_series(1, 20000) n;
insert into jobqueue.dependency (on_id, job_id)
select lpad(to_hex(1 + n / 2 % 5000), 32, '0')::uuid, lpad(to_hex(n), 32, '0')::uuid
  from generate_series(10001, 20000) n
union select lpad('1', 32, '0')::uuid, lpad(to_hex(n), 32, '0')::uuid from generate_series(10001, 20000) n;
insert into jobqueue.fact (target, of_job, completed)
  select lpad(to_hex(n), 32, '0')::uuid, true, 1 from generate_series(1, 5000) n;
insert into jobqueue.fact (target, completed) select '{BUNDLE}', 1 from generate_series(1, 5000) n;
"""
LEARNED: dict[str, tuple[str, list[str]]] = {
    "unknown": ("stocked", []),
    "before": ("analysed", [WAITING]),
    "analysed": ("stocked", ["analyze"]),
}
"""A database, and what is done in it.

So the planner knows nothing, what there was before somebody stored it, all.
"""


def cases() -> Cases:
    """Each statement with its arguments, and how many pages it may touch."""
    ids = [f"{n:032x}" for n in range(1, 202)]
    waiting = [f"{n:032x}" for n in range(10_001, 10_501)]
    since = datetime.now(UTC) - timedelta(days=1)
    return {
        "resolve_jobs of one": ((ids[:1], since, 500, []), 80_000),
        "resolve_jobs of 200": ((ids[1:], since, 500, []), 60_000),
        "release_jobs": ((waiting,), 20_000),
        "heal_dependencies": (("", "0" * 32, 5_000), 150_000),
        "need_unfinished": ((waiting, False), 20_000),
        "need_finished": ((ids,), 30_000),
        "results_before": ((BUNDLE, waiting[0], "task", 0, 500), 100),
        "fold_bundles": (([BUNDLE],), 40_000),
        "retry_finished": ((ids, since, False, False, False), 60_000),
    }


def wrong_with(plan: Plan, pages: int) -> list[str]:
    """What it should not have read."""
    wrong = [f"{plan.buffers} pages"] if plan.buffers > pages else []
    for node in plan.nodes():
        table = str(node.get("Relation Name", ""))
        read = (node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)) * node.get("Actual Loops", 1)
        if node["Node Type"] == "Seq Scan" and table.startswith("job") and read > 1_000:
            wrong.append(f"all of {table}")
        if table and read > 30_000:
            wrong.append(f"{read} rows of {table}")
    return wrong


@pytest.fixture(scope="module")
def stocked(databases: Databases, filled: str) -> Iterator[str]:
    """The name of a database with 10 000 jobs that wait for others; the planner knows nothing of them."""
    with databases.stocked(filled, WAITING) as name:
        yield name


@pytest.mark.parametrize("learned", LEARNED.values(), ids=list(LEARNED), indirect=True)
def test_what_waits_costs_what_is_met(learned: Connection) -> None:
    """No look at jobs that others wait for reads job or archive from end to end, nor what waits again and again."""
    assert_none_dear(learned, cases(), wrong_with)
    learned.execute(DRAINED)
    some = {name: case for name, case in cases().items() if name in ("resolve_jobs of 200", "release_jobs")}
    assert_none_dear(learned, some, wrong_with)
