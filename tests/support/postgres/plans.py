"""How PostgreSQL runs one of our statements: the plan it chose, and what it really touched."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, TypeAlias

import psycopg
from psycopg import sql

from jobqueue.store.schema.statements import statement, statements

Node = Mapping[str, Any]
Connection: TypeAlias = "psycopg.Connection[Any]"
Cases: TypeAlias = Mapping[str, tuple[Sequence[object], int]]
"""Statements, each with its values, and how many pages it may touch. What is behind a name's first word is for readers.
"""
DRAINED: LiteralString = """
update pg_class set reltuples = 0, relpages = greatest(relpages, 2)
where relnamespace = 'jobqueue'::regnamespace and relkind in ('r', 'i')
"""
"""Makes a planner believe what `analyze` tells of tables that were emptied and have kept their pages: no rows, ever."""


@dataclass(frozen=True)
class Plan:
    """One run of a statement."""

    root: Node

    def nodes(self) -> Iterator[Node]:
        """Every node of the plan."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", [])

    def scans(self, table: str) -> Iterator[Node]:
        """The nodes that read a table, or the partitions whose names begin like that."""
        return (
            node
            for node in self.nodes()
            if str(node.get("Relation Name", "")).startswith(table) and "Scan" in node["Node Type"]
        )

    def indexes(self) -> set[str]:
        """The indexes that were used; those of partitions by the name of the partition."""
        return {node["Index Name"] for node in self.nodes() if node.get("Index Name") and node["Actual Loops"]}

    def rows_read(self, table: str) -> float:
        """How many rows of a table were looked at, those included that a filter threw away."""
        scans = self.scans(table)
        return sum(
            float((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
            for node in scans
        )

    @property
    def buffers(self) -> int:
        """Pages touched until the answer. What a `with` changes that nobody reads comes after it, see `whole`."""
        return _pages(self.root)

    @property
    def whole(self) -> int:
        """Pages touched in all."""
        read = {node.get("CTE Name") for node in self.nodes()}
        named = ((node, node.get("Subplan Name", "").removeprefix("CTE ")) for node in self.nodes())
        late = [node for node, name in named if node["Node Type"] == "ModifyTable" and name and name not in read]
        return self.buffers + sum(map(_pages, late))

    def __str__(self) -> str:
        lines = []
        for node in self.nodes():
            place = node.get("Index Name") or node.get("Relation Name") or ""
            lines.append(f"{node['Node Type']} {place} rows={node['Actual Rows']} loops={node['Actual Loops']}")
        return "\n".join(lines)


def _pages(node: Node) -> int:
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


def run_learned(connection: Connection, name: str, values: tuple[object, ...], mode: str, most: int = 0) -> Plan:
    """The same in a session that knows the tables: the cheapest of three, or of two alike.

    It has to learn them again whenever other tests have changed very many of theirs. If what it learns is within the
    pages that it may touch at `most`, once is enough.
    """
    plans = [run_plan(connection, name, values, mode)]
    while plans[-1].buffers > most and len(plans) < 3 and [plan.buffers for plan in plans] != [plans[0].buffers] * 2:
        plans.append(run_plan(connection, name, values, mode))
    return min(plans, key=lambda plan: plan.buffers)


def run_plan(connection: Connection, name: str, values: tuple[object, ...], mode: str) -> Plan:
    """Run a statement with a `custom` or `generic` plan, take back what it did, and return how it was done."""
    kinds = [kind for _, kind in statements()[name].takes]
    types = f"({', '.join(kinds)})" if kinds else ""
    literals = [sql.SQL("({})::" + kind).format(sql.Literal(value)) for value, kind in zip(values, kinds, strict=True)]
    arguments = sql.SQL("(") + sql.SQL(", ").join(literals) + sql.SQL(")") if literals else sql.SQL("")
    with connection.transaction(force_rollback=True):
        connection.execute(f"set local plan_cache_mode = force_{mode}_plan")
        connection.execute(f"prepare measured {types} as {statement(name)}")
        try:
            explained = connection.execute(
                sql.SQL("explain (analyze, buffers, timing off, format json) execute measured ") + arguments
            ).fetchone()
        finally:
            connection.execute("deallocate measured")
    assert explained is not None
    found = explained[0] if isinstance(explained[0], list) else json.loads(explained[0])
    return Plan(found[0]["Plan"])


def dear(plan: Plan, pages: int) -> list[str]:
    """What it should not have read: more than so many pages, or a table from end to end."""
    wrong = [f"{plan.buffers} pages"] if plan.buffers > pages else []
    return wrong + [f"all of {node['Relation Name']}" for node in plan.nodes() if node["Node Type"] == "Seq Scan"]


def assert_none_dear(connection: Connection, cases: Cases, wrong_with: Callable[[Plan, int], list[str]] = dear) -> None:
    """Each statement costs what it may, with a custom and with a generic plan."""
    wrong = []
    for name, (values, pages) in cases.items():
        for mode in ("custom", "generic"):
            plan = run_learned(connection, name.split()[0], tuple(values), mode, pages)
            found = wrong_with(plan, pages)
            wrong += [f"{name}, {mode}: {found}\n{plan}\n"] if found else []
    assert [] == wrong, "\n".join(wrong)
