"""Plans of the audit: what is asked costs what it gives, whatever the planner believes."""

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from tests.support.postgres.database import Databases, name_of
from tests.support.postgres.plans import Plan, run_learned

ROWS = """
alter table jobqueue.audit set (autovacuum_enabled = false);
insert into jobqueue.audit (at, who, via, action, what, matched, changed, jobs)
  select now() - n * interval '1 min', 'u' || n % 1000, 'web',
    case when n % 2000 = 0 then 'seldom' else 'job.cancel' end,
    '{"filter": {"queue": "mail"}}', 3, 3,
    array(select lpad(to_hex(n * 3 + k), 32, '0')::uuid from generate_series(0, 2) k)
  from generate_series(1, 100000) n;
"""
LEARNED = {"unknown": [ROWS], "before": ["analyze jobqueue.audit", ROWS], "analysed": [ROWS, "analyze jobqueue.audit"]}
NEWEST = 2**63 - 1

CASES: dict[str, tuple[tuple[object, ...], int]] = {
    "list_audit": ((NEWEST, 50), 100),
    "audit_of_who": ((NEWEST, 50, "u7", None, None), 300),
    "audit_of_action": ((NEWEST, 50, "seldom"), 300),
    "audit_of_job": ((NEWEST, 50, None, None, None, UUID(int=150_001)), 600),
    "add_to_audit": ((5_000, 7, 7, None, [UUID(int=1)]), 100),
    "forget_audit": ((68 * 86_400.0, 500), 8_000),
}
"""Each statement with its arguments, and how many pages it may touch; the table alone has over 2 000."""


@pytest.fixture(scope="module", params=LEARNED)
def planned(request: pytest.FixtureRequest, databases: Databases, template: str) -> Iterator[str]:
    """The name of a database with 100 000 rows, of which the planner knows this."""
    with databases.temporary(template) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in LEARNED[request.param]:
                connection.execute(statement.encode())
        yield name_of(dsn)


def wrong_with(plan: Plan, pages: int) -> list[str]:
    """What it should not have read."""
    wrong = [f"{plan.buffers} pages"] if plan.buffers > pages else []
    return wrong + [f"all of {node['Relation Name']}" for node in plan.nodes() if node["Node Type"] == "Seq Scan"]


def test_the_audit_costs_what_it_gives(databases: Databases, planned: str) -> None:
    """No statement of the audit reads all of it, with a custom or a generic plan."""
    wrong = []
    with databases.temporary(planned) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        for name, (values, pages) in CASES.items():
            for mode in ("custom", "generic"):
                plan = run_learned(connection, name, values, mode)
                found = wrong_with(plan, pages)
                wrong += [f"{name}, {mode}: {found}\n{plan}\n"] if found else []
    assert [] == wrong, "\n".join(wrong)
