"""Index the standard library with two worker processes, watch them in the database, check what they did.

python -m examples.code_index               every file
python -m examples.code_index --limit 60    the 60 smallest, for a quick look
"""

import argparse
import asyncio
import secrets
import signal
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import asyncpg
from anyio import to_thread
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.code_index.app import TABLE, app, index_file, sum_up
from examples.code_index.measure import LIBRARY, Measures, library_files, measure
from examples.code_index.workers import WorkerFailed, Workers
from jobqueue import Job, JobState

LOOK_EVERY = 0.2  # seconds
APP = "examples.code_index.app:app"

console = Console(highlight=False)


@dataclass(frozen=True)
class Index:
    """What is known of the files: measures of some, and of the others the error that kept them out."""

    measures: dict[str, Measures]
    errors: dict[str, str]

    def sum(self, what: str) -> int:
        """Bytes, lines, functions or classes of all files together."""
        return sum(getattr(one, what) for one in self.measures.values())


async def main(limit: int | None) -> int:
    """The whole demonstration; returns the exit code."""
    files = library_files()
    if limit is not None:
        files = sorted(sorted(files, key=lambda path: (LIBRARY / path).stat().st_size)[:limit])
    console.print(f"{len(files):,} Python files in {LIBRARY}", soft_wrap=True)
    console.print("Each is one job: hash it, parse it, count its lines, functions and classes.")
    console.print("Some are empty or no Python: their jobs fail, are tried twice more, are dead.\n")

    await app.migrate()
    async with app, app.resolved_dsn() as dsn:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(TABLE)
            seconds = await run_jobs(files)
            queued = await read_index(connection)
        finally:
            await connection.close()
    code = report(queued, await measure_all(files), seconds)
    console.print(f"\nIts jobs, and why some failed, in a browser:\n  {dashboard()}", soft_wrap=True)
    return code


async def run_jobs(files: list[str]) -> float:
    """Defer a job for each file, run them in two worker processes, return the seconds until the last one ended."""
    started = time.monotonic()
    async with app.bundle("index", on_finish=sum_up.options(queue=QUEUE).job()) as bundle:
        bundle.add_many(index_file.options(queue=QUEUE).job(path) for path in files)
    console.print(f"{len(files):,} jobs deferred in one transaction, {time.monotonic() - started:.2f} s")
    console.print(f"They are a bundle, {bundle.id}: when all have ended, one more job sums up.")
    with TemporaryDirectory() as folder:
        command = ["-m", "jobqueue", "worker", APP, "--queues", QUEUE, "--concurrency", "4"]
        async with Workers(command, count=2, logs=Path(folder)) as workers:
            console.print(f"Two worker processes, {' and '.join(map(str, workers.ids))}, each started as")
            console.print(f"  python {' '.join(command)}\n", soft_wrap=True)
            await watch(bundle.id, workers)
            seconds = time.monotonic() - started
            console.print(f"The last job says: {await last_word(bundle.id)}")
            return seconds


async def watch(id: UUID, workers: Workers) -> None:
    """Show what the database says until the bundle has ended. Raises WorkerFailed if a worker is gone before."""
    with progress_bar() as bar:
        row = bar.add_task("indexing", total=None, note="")
        while True:
            workers.check()
            bundle = await app.bundles.get(id)
            again = (await app.jobs.counts()).by_queue.get(QUEUE, {}).get(JobState.SCHEDULED, 0)
            note = f"{bundle.dead} dead, {again} to be tried again"
            bar.update(row, total=bundle.added, completed=bundle.ended, note=note)
            if bundle.finished:
                return
            await asyncio.sleep(LOOK_EVERY)


async def last_word(id: UUID) -> str:
    """What the job that sums up has given: the callback of the bundle, its newest job."""
    (last,) = await app.bundles.members(id, limit=1)
    return await sum_up.handle(last.id).result(timeout=30)


async def read_index(connection: "asyncpg.Connection[asyncpg.Record]") -> Index:
    """What the jobs have left behind: their rows, and the dead ones' last errors."""
    rows = await connection.fetch("select path, sha256, bytes, lines, functions, classes from code_index.file")
    measures = {path: Measures(*values) for path, *values in rows}
    errors: dict[str, str] = {}
    after = None
    while True:
        page = await app.jobs.list(queue=QUEUE, state=JobState.DEAD, after=after, limit=1000, payload=True)
        errors |= {job.args["path"]: last_error(job) for job in page}
        if (after := page.next) is None:
            return Index(measures, errors)


def last_error(job: Job) -> str:
    """The class of the error that a dead job ended with, and how often it was tried."""
    name = job.error.error_class.rpartition(".")[2] if job.error else "no error"
    return f"{name} after {len(job.errors)} attempts"


async def measure_all(files: list[str]) -> Index:
    """The same without the queue: one file after the other, in this process."""
    index = Index({}, {})
    with progress_bar() as bar:
        row = bar.add_task("checking", total=len(files), note="the same figures without the queue")
        for path in files:
            try:
                index.measures[path] = await to_thread.run_sync(measure, path)
            except Exception as error:  # whatever the parser says
                index.errors[path] = f"{type(error).__name__} after {index_file.task_options.max_attempts} attempts"
            bar.advance(row)
    return index


def report(queued: Index, alone: Index, seconds: float) -> int:
    """Print the totals of both, and the verdict."""
    table = Table("", "by the queue", "without it")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("files indexed", f"{len(queued.measures):,}", f"{len(alone.measures):,}")
    for what in ("bytes", "lines", "functions", "classes"):
        table.add_row(what, f"{queued.sum(what):,}", f"{alone.sum(what):,}")
    table.add_section()
    found, expected = Counter(queued.errors.values()), Counter(alone.errors.values())
    for error in sorted(found | expected):
        table.add_row(error, f"{found[error]:,}", f"{expected[error]:,}")
    console.print()
    console.print(table)

    differing = sorted(path for path in all_paths(queued, alone) if look_up(queued, path) != look_up(alone, path))
    for path in differing[:10]:
        console.print(f"[red]{path}: {look_up(queued, path)} by the queue, {look_up(alone, path)} without it")
    if differing:
        console.print(f"[red]{len(differing)} files differ")
        return 1
    console.print("Every row, hashes included, is the same.")
    console.print(f"[bold]{len(queued.measures)} completed, {len(queued.errors)} dead in {seconds:.1f} s")
    return 0


def dashboard() -> str:
    """The command that shows what is in the database: with the Python that runs this, which has jobqueue."""
    python, here = Path(sys.executable), Path.cwd()
    return f"{python.relative_to(here) if python.is_relative_to(here) else python} -m jobqueue web {APP}"


def all_paths(*indexes: Index) -> set[str]:
    """The files that any of them knows."""
    return {path for index in indexes for path in (*index.measures, *index.errors)}


def look_up(index: Index, path: str) -> tuple[Measures | None, str | None]:
    """What an index says of a file."""
    return index.measures.get(path), index.errors.get(path)


def progress_bar() -> Progress:
    """A bar on one line, with a note behind it."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


async def until_told_to_stop(limit: int | None) -> int:
    """Run `main`; a SIGTERM ends it like Ctrl-C, with the workers drained."""
    this = asyncio.current_task()
    if this is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    return await main(limit)


def command_line() -> int:
    """Read the options, run, turn what may go wrong into a line and an exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.code_index", description=__doc__.partition("\n")[0])
    parser.add_argument("--limit", type=int, metavar="N", help="only the N smallest files")
    warnings.simplefilter("ignore", SyntaxWarning)  # the library is old in places; that is not our subject
    try:
        return asyncio.run(until_told_to_stop(parser.parse_args().limit))
    except WorkerFailed as failure:
        console.print(f"[red]{failure}", soft_wrap=True)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("\nStopped. The workers have ended; the jobs that are left stay in the database.")
        return 130


QUEUE = f"code_index-{secrets.token_hex(4)}"
"""A queue of its own for every run: what an interrupted run has left over is not ours, and counts are simple."""

if __name__ == "__main__":
    sys.exit(command_line())
