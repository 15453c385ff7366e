"""`info`: what is here, in one look."""

import asyncio
import platform
from dataclasses import asdict, dataclass

from jobqueue.base.flows.bundle import BundleCounts
from jobqueue.base.job import JobState
from jobqueue.base.settings import Settings
from jobqueue.base.version import VERSION
from jobqueue.cli.bundles import counts as bundles
from jobqueue.cli.jobs.look import counts_document, write_counts
from jobqueue.cli.place import Place
from jobqueue.cli.queues.stuck import stuck_document, write_stuck
from jobqueue.cli.schedules.words import FIRING_HEADERS, FIRINGS, firing_row
from jobqueue.cli.terminal.failures import ExitCode
from jobqueue.cli.terminal.output import write, write_facts, write_heading, write_json, write_table
from jobqueue.cli.terminal.safe_text import shown_dsn
from jobqueue.store.flows.schedules import Firing, next_firings
from jobqueue.store.looking.overview import Counts, StuckJob, count_bundles, count_jobs, stuck_now
from jobqueue.store.schema.migrate import applied_migrations, migrations
from jobqueue.store.workers import WorkerRow, list_workers
from jobqueue.telling.spans import ago
from jobqueue.worker.claiming.queues import Queues


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found. All from `workers` on are None where the schema lacks a migration."""

    database: str
    server: str
    remedy: str | None
    """SQL for an administrator, where single statements have no limit behind a pooler."""
    applied: list[str]
    missing: list[str]
    workers: list[WorkerRow] | None
    counts: Counts | None
    bundles: BundleCounts | None
    firings: list[Firing] | None
    """What schedules fire next."""
    stuck: list[StuckJob] | None


def show_info(place: Place, as_json: bool) -> ExitCode:
    """Everything about an installation; OK even if the schema is not there yet."""
    facts = asyncio.run(_found(place))
    if as_json:
        write_json(_document(place, facts))
    else:
        _write(place, facts)
    return ExitCode.OK


async def _found(place: Place) -> Facts:
    async with place.database() as (dsn, database):
        async with database.connection() as connection:
            version = connection.get_server_version()
            applied = await applied_migrations(connection, place.schema)
        missing = [migration.name for migration in migrations() if migration.name not in applied]
        return Facts(
            database=shown_dsn(dsn),
            server=f"{version.major}.{version.micro}",  # 16.4 comes as (16, 0, 4)
            remedy=database.remedy,
            applied=sorted(applied),
            missing=missing,
            workers=None if missing else await list_workers(database),
            counts=None if missing else await count_jobs(database),
            bundles=None if missing else await count_bundles(database),
            firings=None if missing else await next_firings(database, FIRINGS),
            stuck=None if missing else await stuck_now(database),
        )


def _document(place: Place, facts: Facts) -> dict[str, object]:
    return {
        "version": VERSION,
        "python": platform.python_version(),
        "app": place.app.name if place.app else None,
        "database": facts.database,
        "server": facts.server,
        "remedy": facts.remedy,
        "schema": place.schema,
        "migrations": {"applied": facts.applied, "missing": facts.missing},
        "workers": None if facts.workers is None else [asdict(worker) for worker in facts.workers],
        "jobs": None if facts.counts is None else counts_document(facts.counts),
        "bundles": None if facts.bundles is None else bundles.counts_document(facts.bundles),
        "firings": None if facts.firings is None else [asdict(firing) for firing in facts.firings],
        "unserved": None if facts.counts is None else _unserved(facts),
        "stuck": None if facts.stuck is None else [stuck_document(one) for one in facts.stuck],
        "settings": asdict(place.settings),
    }


def _write(place: Place, facts: Facts) -> None:
    write(f"jobqueue {VERSION} on Python {platform.python_version()}")
    write_facts(
        {
            "app": place.app.name if place.app else None,
            "database": facts.database,
            "PostgreSQL": facts.server,
            "pooler": facts.remedy and f"single statements have no time limit; {facts.remedy} gives one",
            "schema": place.schema,
            "migrations": f"{len(facts.applied)} applied, the last is {facts.applied[-1]}"
            if facts.applied
            else "none applied",
            "missing": f"{', '.join(facts.missing)}; run `python -m jobqueue migrate up`" if facts.missing else None,
        }
    )
    if facts.workers is not None:
        write_heading("workers" if facts.workers else "no workers")
        _write_workers(facts.workers)
        write_stuck(facts.stuck or ())
    if facts.counts is not None and facts.counts.by_queue:
        write_heading("jobs")
        write_counts(facts.counts)
        if unserved := _unserved(facts):
            write(f"no living worker serves: {', '.join(unserved)}")
    if facts.bundles is not None and facts.bundles.unfinished + facts.bundles.finished:
        write_heading("bundles")
        write(f"  {bundles.told(facts.bundles)}")
    if facts.firings:
        write_heading("schedules, next")
        write_table(FIRING_HEADERS, [firing_row(firing) for firing in facts.firings], apart=("schedule", "task"))
    write_heading("settings (* is not the default)")
    defaults = asdict(Settings())
    for knob, value in asdict(place.settings).items():
        shown = ", ".join(value) or None if isinstance(value, tuple) else value
        shown = f"{shown:.10g}" if isinstance(shown, float) else "-" if shown is None else shown
        write(f"  {'*' if value != defaults[knob] else ' '} {knob:<18}{shown}")


def _unserved(facts: Facts) -> list[str]:
    """Queues with ready jobs that no living worker takes any from."""
    alive = [Queues(worker.queues) for worker in facts.workers or () if worker.alive]
    by_queue = {} if facts.counts is None else facts.counts.by_queue
    ready = [queue for queue, held in by_queue.items() if held.get(JobState.READY)]
    return sorted(queue for queue in ready if not any(queues.serves(queue) for queues in alive))


def _write_workers(workers: list[WorkerRow]) -> None:
    if workers:
        write_table(
            ("id", "app", "host", "pid", "slots", "queues", "started", "seen"),
            [
                (
                    row.id,
                    row.app,
                    row.host,
                    row.pid,
                    row.concurrency,
                    ", ".join(row.queues),
                    ago(row.started_at),
                    ago(row.seen_at),
                )
                for row in workers
            ],
            right=("pid", "slots"),
            apart=("app", "host", "queues"),
        )
