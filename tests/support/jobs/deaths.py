"""What a worker leaves behind that died, written past the library: its row, and jobs that it still holds on record."""

from collections.abc import Awaitable, Callable, Iterable
from uuid import UUID

from uuid_utils.compat import uuid7

from tests.support.jobs.store import connect
from tests.support.waiting import wait_until

SILENT, ALIVE = -1.0, 3600.0
"""For how many seconds a worker's last beat vouches for it."""
DAY_AND_MORE = -90_000.0


async def worker_row(
    dsn: str, alive: float = SILENT, *, machine: str | None = None, pid: int = 1, born: str | None = None
) -> UUID:
    """Register a worker that nobody runs; its id."""
    id = uuid7()
    async with connect(dsn) as connection:
        await connection.execute(
            "insert into jobqueue.worker (id, app, host, pid, version, queues, concurrency, alive_until, machine, born)"
            " values ($1, 'tests', 'elsewhere', $2, '0', '{*}', 1, now() + make_interval(secs => $3), $4, $5)",
            id, pid, alive, machine, born,
        )  # fmt: skip
    return id


async def bait(dsn: str) -> Callable[[], Awaitable[None]]:
    """Register one that nobody remembers; who awaits what this returns comes back when a rescuer has swept."""
    id = await worker_row(dsn, DAY_AND_MORE)

    async def forgotten() -> bool:
        async with connect(dsn) as connection:
            return not await connection.fetchval("select exists (select from jobqueue.worker where id = $1)", id)

    return lambda: wait_until(forgotten, "a rescuer has swept")


async def left_running(
    dsn: str, ids: Iterable[UUID], worker: UUID | None = None, *, lease: float = -1.0, started: bool = True
) -> None:
    """Put ready jobs on record as claimed by a worker, for `lease` more seconds; one without a row if none is named."""
    async with connect(dsn) as connection:
        await connection.execute(
            "update jobqueue.job set state = 'running', attempt = attempt + 1, fence = nextval('jobqueue.fence_seq'),"
            " worker_id = $2, claim_no = 1, claimed_at = now(), lease_until = now() + make_interval(secs => $3),"
            " started = $4 where id = any($1::uuid[])",
            list(ids), worker or uuid7(), lease, started,
        )  # fmt: skip


async def take_away(dsn: str, id: UUID) -> None:
    """Give a running job to another worker, as if its lease had been over."""
    async with connect(dsn) as connection:
        changed = await connection.execute(
            "update jobqueue.job set fence = nextval('jobqueue.fence_seq'), worker_id = $2,"
            " lease_until = now() + interval '1 h' where id = $1 and state = 'running'",
            id, uuid7(),
        )  # fmt: skip
    assert changed == "UPDATE 1"
