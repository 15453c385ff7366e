"""Finished jobs of long ago: days of the archive, and jobs in them, made past the library."""

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import psycopg

INSERT = """
insert into jobqueue.job_archive (id, queue, task, args, priority, state, due_at, attempt, max_attempts, crashes, lost,
  fence, via, follow, created_at, finished_at, result, bundle_id)
select jobqueue.new_id(), %(queue)s, 't', '{}', 0, %(state)s, now(), 1, 1, 0, 0, n, 'py', %(follow)s, now(),
  now() - make_interval(secs => %(seconds)s), case %(state)s when 'completed' then to_json(n) end, %(bundle)s
from generate_series(1, %(count)s) n
"""


def utc_day(days_ago: int) -> date:
    """A day of the archive, counted back from today."""
    return datetime.now(UTC).date() - timedelta(days=days_ago)


def leaf(kind: str, days_ago: int) -> str:
    """The name of that day's partition."""
    return f"job_archive_{kind}_{utc_day(days_ago):%Y%m%d}"


def finished(
    dsn: str,
    count: int = 1,
    *,
    seconds: float = 0.0,
    state: str = "completed",
    queue: str = "default",
    bundle: UUID | None = None,
    follow: int = 0,
) -> None:
    """Put jobs into the archive that ended so many seconds ago; their day is made if it is not there.

    Their results are 1, 2, 3, ...
    """
    kind = "completed" if state == "completed" else "other"
    day = (datetime.now(UTC) - timedelta(seconds=seconds)).date()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            f"create table if not exists jobqueue.job_archive_{kind}_{day:%Y%m%d}"
            f" partition of jobqueue.job_archive_{kind}"
            f" for values from ('{day} 00:00+00') to ('{day + timedelta(days=1)} 00:00+00')"
        )
        values = {"queue": queue, "state": state, "seconds": seconds, "count": count}
        values |= {"bundle": bundle, "follow": follow}
        connection.execute(INSERT, values)


def leaves(dsn: str, kind: str) -> set[str]:
    """The days of one half of the archive that are over, by the names of their partitions."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
            " where i.inhparent = %s::regclass",
            (f"jobqueue.job_archive_{kind}",),
        )
        return {str(name) for (name,) in found if name < leaf(kind, 0)}


def kept(dsn: str) -> dict[tuple[str, str], int]:
    """How many finished jobs there are, by queue and state."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute("select queue, state, count(*) from jobqueue.job_archive group by queue, state")
        return {(queue, state): count for queue, state, count in found}


def keep(dsn: str, queue: str, *, completed: float | None = None, other: float | None = None) -> None:
    """Say how long a queue's finished jobs stay."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "insert into jobqueue.queue (name, keep_completed, keep_other) values (%(name)s, %(completed)s, %(other)s)"
            " on conflict (name) do update set keep_completed = %(completed)s, keep_other = %(other)s",
            {"name": queue, "completed": completed, "other": other},
        )
