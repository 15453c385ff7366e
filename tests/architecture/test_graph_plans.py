"""Plans of graphs: one of 10 000 jobs is read for what it is, beside 80 000 jobs that are in none."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.full import GRAPH, LINKED, MISLEADING, NODES
from tests.support.postgres.plans import Connection, Plan, assert_none_dear

LEARNED: dict[str, tuple[str, list[str]]] = {
    "unknown": ("stocked", []),
    "before": ("analysed", [GRAPH]),
    "misled": ("filled", [MISLEADING, "vacuum jobqueue.job", GRAPH]),
    "analysed": ("stocked", ["analyze"]),
}
"""A database, and what is done in it.

So the planner knows nothing, what was before somebody stored it, what is past, all. Misled, it believes that a
bundle has one place in a graph, and that all jobs are in this bundle. What was there then is vacuumed away: each look
would read it again for as long as any transaction of the server is older, as another test's.
"""


def wrong_with(plan: Plan, pages: int) -> list[str]:
    """What it should not have read, or compared."""
    wrong = [f"{plan.buffers} pages"] if plan.buffers > pages else []
    for node in plan.nodes():
        table = str(node.get("Relation Name", ""))
        read = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        if node["Node Type"] == "Seq Scan" and table.startswith("job") and read:
            wrong.append(f"all of {table}")
        compared = node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"]
        if compared > NODES:
            wrong.append(f"{compared} pairs")
    return wrong


@pytest.fixture(scope="module")
def stocked(databases: Databases, filled: str) -> Iterator[str]:
    """The name of a database with a graph of 10 000 jobs; the planner knows nothing of them."""
    with databases.stocked(filled, GRAPH) as name:
        yield name


@pytest.mark.parametrize("learned", LEARNED.values(), ids=list(LEARNED), indirect=True)
def test_a_graph_costs_its_own_jobs(learned: Connection) -> None:
    """No look at a graph reads job or archive from end to end, nor compares each job with each place."""
    known = learned.execute(
        "(select id from jobqueue.job limit 500) union all select id from jobqueue.job_archive limit 1000"
    )
    strange = [id for (id,) in known.fetchall()] + [uuid4() for _ in range(500)]
    cases = {
        "bundle_graph": ((LINKED,), NODES // 5),
        "graph_strangers": ((strange,), 40 * len(strange)),
        "graph_strangers of one": ((strange[:1],), 200),
    }
    assert_none_dear(learned, cases, wrong_with)
