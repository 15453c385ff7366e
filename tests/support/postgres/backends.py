"""What a database's server knows of those who are connected to it."""

from tests.support.jobs.store import connect
from tests.support.postgres.kept import NAME
from tests.support.waiting import wait_until

OTHERS = (
    "datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
    f" and application_name <> '{NAME}'"
)


async def backends(dsn: str, condition: str = "true", *values: object) -> list[int]:
    """The process ids of the other connections to this database for which this SQL condition holds."""
    async with connect(dsn) as connection:
        query = f"select pid from pg_stat_activity where {OTHERS} and {condition} order by pid"
        return [int(row["pid"]) for row in await connection.fetch(query, *values)]


async def terminate(dsn: str, condition: str = "true", *values: object) -> int:
    """End those connections, as an administrator would; returns how many there were."""
    async with connect(dsn) as connection:
        query = f"select count(pg_terminate_backend(pid)) from pg_stat_activity where {OTHERS} and {condition}"
        return int(await connection.fetchval(query, *values))


async def becomes(dsn: str, count: int, condition: str = "true", *values: object) -> None:
    """Return once there are exactly so many of those connections."""

    async def there_are() -> bool:
        return len(await backends(dsn, condition, *values)) == count

    await wait_until(there_are, f"there are {count} connections with {condition}")


async def change(dsn: str, commands: str) -> None:
    """Change a database in a way that users might, past the library."""
    async with connect(dsn) as connection:
        await connection.execute(commands)


async def stored(dsn: str, count: int) -> None:
    """Return once there are exactly so many unfinished jobs."""
    async with connect(dsn) as connection:

        async def are() -> bool:
            return bool(count == await connection.fetchval("select count(*) from jobqueue.job"))

        await wait_until(are, f"{count} jobs are stored")


LISTENS = "query ~* '^listen|-- [l]istens to'"
"""A listener, also after its first probe; not whoever asks with this."""
AWAITS_RESULTS = f"{LISTENS} and query ilike '%jobqueue_done%'"
WAITS_FOR_LOCK = "wait_event_type = 'Lock'"
