"""Plans of the audit: what is asked costs what it gives, whatever the planner believes."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.plans import Cases, Connection, assert_none_dear

ROWS = """
alter table jobqueue.audit set (autovacuum_enabled = false);
insert into jobqueue.audit (at, who, via, action, what, matched, changed, jobs)
  select now() - n * interval '2 min', 'u' || n % 500, 'web',
    case when n % 1000 = 0 then 'seldom' else 'job.cancel' end,
    '{"filter": {"queue": "mail"}}', 3, 3,
    array(select lpad(to_hex(n * 3 + k), 32, '0')::uuid from generate_series(0, 2) k)
  from generate_series(1, 50000) n;
"""
LEARNED: dict[str, tuple[str, list[str]]] = {
    "unknown": ("stocked", []),
    "before": ("template", ["analyze jobqueue.audit", ROWS]),
    "analysed": ("stocked", ["analyze jobqueue.audit"]),
}
"""A database, and what is done in it: what the planner knows of 50 000 rows: nothing, what there was before, all."""
NEWEST = 2**63 - 1

CASES: Cases = {
    "list_audit": ((NEWEST, 50), 100),
    "audit_of_who": ((NEWEST, 50, "u7", None, None), 300),
    "audit_of_action": ((NEWEST, 50, "seldom"), 300),
    "audit_of_job": ((NEWEST, 50, None, None, None, UUID(int=75_001)), 600),
    "add_to_audit": ((5_000, 7, 7, None, [UUID(int=1)]), 100),
    "forget_audit": ((68 * 86_400.0, 500), 8_000),
}
"""Each statement with its arguments, and how many pages it may touch; the table alone has over 1 200."""


@pytest.fixture(scope="module")
def stocked(databases: Databases, template: str) -> Iterator[str]:
    """The name of a database with 50 000 entries; the planner knows nothing of them."""
    with databases.stocked(template, ROWS) as name:
        yield name


@pytest.mark.parametrize("learned", LEARNED.values(), ids=list(LEARNED), indirect=True)
def test_the_audit_costs_what_it_gives(learned: Connection) -> None:
    """No statement of the audit reads all of it, with a custom or a generic plan."""
    assert_none_dear(learned, CASES)
