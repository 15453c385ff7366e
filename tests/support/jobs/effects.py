"""What handlers write into a table of the user's, on whatever connection they have."""

from typing import Any

from sqlalchemy import text

from jobqueue import JobContext
from tests.support.jobs.working import asked

EFFECTS = "create table effect (job uuid, attempt integer)"


async def write_effect(connection: Any, ctx: JobContext) -> None:
    """That this attempt had its effect."""
    sql = f"insert into effect values ('{ctx.job.id}', {ctx.attempt})"
    await connection.execute(text(sql) if "sqlalchemy" in type(connection).__module__ else sql)


async def effects(dsn: str) -> int:
    """How many there were."""
    return int(await asked(dsn, "select count(*) from effect"))
