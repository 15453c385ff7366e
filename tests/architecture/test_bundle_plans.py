"""Plans of bundles: one of 50 000 waiting and as many finished members costs what is asked of it, beside others."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support.history import leaf
from tests.support.postgres.database import Databases
from tests.support.postgres.full import BUNDLE, BUNDLES
from tests.support.postgres.plans import DRAINED, Plan, assert_none_dear, run_learned, run_plan

HIGHEST, LOWEST = "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000000"
STATES = ["ready", "scheduled", "running", "completed", "cancelled", "dead"]
FEW = 2_000
"""Pages that a look at a page of 500 may touch; the tables have many thousands."""


@pytest.fixture(scope="module")
def bundled(databases: Databases, filled: str) -> Iterator[str]:
    """The name of a database with a very large bundle, 5 000 others, and 75 000 jobs that are in none."""
    with databases.stocked(filled, BUNDLES) as name:
        yield name


def cases(connection: "psycopg.Connection[Any]") -> dict[str, tuple[object, ...]]:
    """Each statement with its arguments."""
    found = connection.execute("select id from jobqueue.bundle where finished_at is null order by id limit 200")
    some = [id for (id,) in found]
    over = connection.execute("select id from jobqueue.bundle where finished_at is not null limit 500").fetchall()
    members = connection.execute("select id from jobqueue.job where bundle_id = %s limit 500", (BUNDLE,)).fetchall()
    return {
        "fold_bundles of one": (some[:1],),
        "fold_bundles of 200": (some,),
        "waiting_facts": (200,),
        "heal_bundles": (200,),
        "find_bundle": (BUNDLE,),
        "count_bundles": (10_000, 50),
        "waiting_flows": (10_000,),
        "child_bundles": (BUNDLE,),
        "bundle_members": (BUNDLE, STATES, HIGHEST, 500, False, None, None, None, None),
        "bundle_members halfway": (BUNDLE, STATES, members[250][0], 500, False, None, None, None, None),
        "bundle_results": (BUNDLE, "t", LOWEST, 500),
        "bundle_results of those kept": (BUNDLE, "u", LOWEST, 500),
        "keep_results": (leaf("completed", 1), LOWEST, LOWEST, 500),
        "delete_waiting": ([id for (id,) in members],),
        "delete_bundle": (BUNDLE,),
        "delete_nodes": ([id for (id,) in over], 500),
        "old_bundles": (0.0, 500),
        "forget_bundles": ([id for (id,) in over], 0.0),
    }


def wrong_with(plan: Plan) -> list[str]:
    """What it should not have read."""
    wrong = []
    for node in plan.nodes():
        table = str(node.get("Relation Name", ""))
        read = (node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)) * node.get("Actual Loops", 1)
        if node["Node Type"] == "Seq Scan" and read and table != "fact":
            wrong.append(f"all of {table}")
    return wrong


MANY = {"waiting_facts": 2_000, "fold_bundles of 200": 60_000, "delete_waiting": 40_000, "heal_bundles": 20_000,
        "bundle_results": 8_000, "bundle_results of those kept": 8_000, "keep_results": 15_000, "delete_nodes": 5_000,
        "old_bundles": 6_000, "forget_bundles": 6_000}  # fmt: skip
"""Pages that these may touch: they do something to many rows."""
DRAINABLE = ("heal_bundles", "forget_bundles")
"""What is shown on tables that were drained when they were analysed, too."""


@pytest.mark.parametrize("analysed", [False, True], ids=["unknown", "analysed"])
def test_no_statement_of_bundles_reads_all_jobs(databases: Databases, bundled: str, analysed: bool) -> None:
    """S4-88: neither looking at, adding up nor deleting a very large bundle reads job or archive from end to end."""
    wrong = []
    with databases.temporary(bundled) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        if analysed:
            connection.execute("analyze")
        for name, values in cases(connection).items():
            for mode in ("custom", "generic"):
                most = MANY.get(name, FEW)
                plan = run_learned(connection, name.split()[0], values, mode, most)
                found = wrong_with(plan)
                if plan.buffers > most:
                    found.append(f"{plan.buffers} pages")
                if found:
                    wrong.append(f"{name}, {mode}: {found}\n{plan}\n")
        if analysed:
            some = {name: (values, MANY[name]) for name, values in cases(connection).items() if name in DRAINABLE}
            with connection.transaction(force_rollback=True):
                connection.execute(DRAINED)
                assert_none_dear(connection, some)
        connection.execute("delete from jobqueue.job where bundle_id = %s", (BUNDLE,))  # the statistics say otherwise
        for mode in ("custom", "generic"):
            for name, values in (("delete_nodes", ([BUNDLE], 500)), ("delete_bundle", (BUNDLE,))):
                plan = run_plan(connection, name, values, mode)
                wrong += [f"{name} at last, {mode}: {found}\n{plan}\n" for found in wrong_with(plan)]
    assert not wrong, "\n".join(wrong)
