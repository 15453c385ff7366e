"""Keeps the archive's partitions ahead of time."""

from jobqueue.store.pool import Database

DAYS_AHEAD = 7


async def extend_archive(database: Database) -> int:
    """Make the partitions up to a week ahead; how many were missing."""
    made: int = (await database.fetch("extend_archive", DAYS_AHEAD))[0]["made"]
    return made
