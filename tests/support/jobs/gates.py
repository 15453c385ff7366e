"""What tests of limits stand on: jobs with gates, one look at the gates, and what must hold of them at any moment."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from jobqueue.base.job import NewJob
from jobqueue.store.connection.session import Session
from jobqueue.store.flows.limits import Admitted, LimitRow, admit, declare
from tests.support.jobs.store import Connection, connect, new_job, open_session

_WRONG = """
select coalesce(g.name, h.gate) as gate, coalesce(g.counted, 0) as counted, coalesce(h.held, 0) as held
from (
  select g.name, g.held - coalesce((select sum(n.freed) from {0}.gate_note n where n.gate = g.name), 0) as counted
  from {0}.gate g
) as g
full join (
  select p.gate, count(*) as held from {0}.job j cross join lateral unnest(j.gates[1:j.passed]) as p(gate)
  where p.gate not like '~%' group by p.gate
) as h on h.gate = g.name
where coalesce(g.counted, 0) <> coalesce(h.held, 0)
"""
_OVER = """
select p.gate, count(*) as held, max(l.concurrency) as most
from {0}.job j cross join lateral unnest(j.gates[1:j.passed]) as p(gate)
join {0}."limit" l on l.name = split_part(p.gate, E'\\n', 1)
group by p.gate having count(*) > max(l.concurrency)
"""
_STRAY = """
select id, state, gate from {0}.job
where gate is not null and (state <> 'blocked' or gate is distinct from gates[passed + 1])
"""


async def declare_limit(session: Session, name: str, concurrency: int | None = 1, **said: Any) -> None:
    """Declare one limit."""
    await declare(session, [LimitRow(name, concurrency, **said)], "tests", always=False)


async def declare_limits(dsn: str, *limits: tuple[str, int], ordered: Sequence[str] = ()) -> None:
    """Declare limits by name and places."""
    async with open_session(dsn) as session:
        await declare(session, [LimitRow(name, places, ordered=name in ordered) for name, places in limits], "tests")


async def held_after_all(dsn: str) -> list[str]:
    """What is wrong once no job is left: gates that would still be held, and what must never be seen."""
    async with open_session(dsn) as session, connect(dsn) as connection:
        await look(session)
        rows = await connection.fetch("select name, held from jobqueue.gate where held <> 0")
        return [f"held: {dict(row)}" for row in rows] + await wrong_with_gates(connection)


def limited(*gates: str, **said: Any) -> NewJob[None]:
    """A new job with these gates."""
    return new_job(gates=gates, **said)


async def look(session: Session, *, horizon: float = 0.3) -> Admitted:
    """Look at the gates until nobody goes any more; what the last look that let somebody go has done."""
    last = done = await admit(session, 1_000, horizon)
    while done.jobs or done.busy:
        last, done = done, await admit(session, 1_000, horizon)
    return last


async def wrong_with_gates(connection: Connection, schema: str = "jobqueue", *, over: bool = True) -> list[str]:
    """What must never be seen: places counted otherwise than held, more than the limit, lines with nobody's name.

    `over`: whether no limit was lowered while its places were held.
    """
    quoted = f'"{schema}"'
    found = [f"miscounted: {dict(row)}" for row in await connection.fetch(_WRONG.format(quoted))]
    if over:
        found += [f"over the limit: {dict(row)}" for row in await connection.fetch(_OVER.format(quoted))]
    return found + [f"stray: {dict(row)}" for row in await connection.fetch(_STRAY.format(quoted))]


async def wrong_at_the_end(dsn: str) -> list[str]:
    """The same after any test, which may have lowered limits, or taken the tables away."""
    async with connect(dsn) as connection:
        try:
            used = await connection.fetchval("select exists (select from jobqueue.gate)")
        except asyncpg.PostgresError:
            return []
        return await wrong_with_gates(connection, over=False) if used else []


async def in_line(connection: Connection, gate: str) -> list[UUID]:
    """Who stands at a gate, the next one first."""
    rows = await connection.fetch(
        "select id from jobqueue.job where state = 'blocked' and gate = $1 order by priority desc, seq", gate
    )
    return [row["id"] for row in rows]


async def states(connection: Connection, ids: Sequence[UUID]) -> list[tuple[str, int, str | None]]:
    """State, passed gates and gate of these jobs, in their order."""
    rows = await connection.fetch("select id, state, passed, gate from jobqueue.job where id = any($1)", list(ids))
    found = {row["id"]: (row["state"], row["passed"], row["gate"]) for row in rows}
    return [found.get(id, ("gone", 0, None)) for id in ids]


@asynccontextmanager
async def watched(dsn: str) -> AsyncIterator[None]:
    """Look at the books again and again while the block runs."""

    async def watch() -> None:
        async with connect(dsn) as connection:
            while True:
                assert [] == await wrong_with_gates(connection)
                await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    assert watching.cancelled() or watching.result() is None
