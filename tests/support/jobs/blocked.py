"""Jobs that wait for others, as plain SQL makes them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from tests.support.jobs.store import Connection

BUNDLE = UUID(int=9)
_BLOCK = "update jobqueue.job set state = 'blocked', bundle_id = $2 where id = $1"
_DEPEND = "insert into jobqueue.dependency (on_id, job_id, any_end) select on_id, $1, $3 from unnest($2::uuid[]) on_id"
_NODE = """
insert into jobqueue.node (bundle_id, job_id, task, after)
  select $1, id, task, case when id = $2 then $3::uuid[] else '{}' end from (
    select id, task from jobqueue.job union all select id, task from jobqueue.job_archive) as known
  where id = $2 or id = any($3)
on conflict (bundle_id, job_id) do update set after = jobqueue.node.after || excluded.after
"""


async def block(connection: Connection, id: UUID, after: Sequence[UUID] = (), *, any_end: bool = False) -> None:
    """Make a job wait for others, and for what it waits for already."""
    async with connection.transaction():
        await connection.execute(_BLOCK, id, BUNDLE)
        await connection.execute(_DEPEND, id, list(after), any_end)
        await connection.execute(_NODE, BUNDLE, id, list(after))


async def resolve(connection: Connection, on: UUID, outcome: str) -> None:
    """Note how a job ended that others come after, as whoever looks after its end does."""
    await connection.execute("update jobqueue.node set outcome = $2 where job_id = $1", on, outcome)
    if outcome == "completed":
        await connection.execute("delete from jobqueue.dependency where on_id = $1", on)


async def row_of(connection: Connection, id: UUID) -> dict[str, Any]:
    """An unfinished job as it stands."""
    row = await connection.fetchrow("select * from jobqueue.job where id = $1", id)
    assert row is not None
    return dict(row)
