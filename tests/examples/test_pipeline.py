"""The pipeline: its stages wait for each other, whoever is killed; what fails is repaired, and the same run goes on."""

import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from examples.pipeline.app import SAVE, app
from examples.pipeline.imports import FILES, LIBRARY, imported_by, is_slow, python_files
from jobqueue import Job, JobState
from tests.examples.programs import Ended, Program, run, running
from tests.support.waiting import wait_until

APP = "examples.pipeline.app:app"


@dataclass(frozen=True)
class Pipeline:
    """A folder of the library's own files, and a run that reads them."""

    folder: Path
    dsn: str
    connection: "asyncpg.Connection[asyncpg.Record]"

    @property
    def report(self) -> Path:
        return self.folder.parent / "report.txt"

    @property
    def files(self) -> list[Path]:
        return python_files(self.folder)

    async def start(self) -> UUID:
        """Start a run as its readers do."""
        started = await run("-m", "examples.pipeline", str(self.folder), "--report", str(self.report), dsn=self.dsn)
        assert 0 == started.code, started.err
        found = re.search(r"^started: +(\S+)$", started.out, re.MULTILINE)
        assert found is not None, started.out
        return UUID(found[1])

    def worker(self, name: str) -> AbstractAsyncContextManager[Program]:
        """A worker process; `name` is that of its log."""
        return running("-m", "jobqueue", "worker", APP, dsn=self.dsn, log=self.folder.parent / name)

    async def bundles(self, verb: str, id: UUID) -> Ended:
        """`python -m jobqueue bundles VERB`."""
        return await run("-m", "jobqueue", "bundles", verb, str(id), APP, dsn=self.dsn)

    async def jobs(self, id: UUID, task: str) -> list[Job]:
        """The jobs of a stage."""
        return [job for job in await app.bundles.members(id, limit=1000) if job.task == task]

    async def stages_in_order(self, id: UUID) -> bool:
        """No stage began before the one before it was over, on record and by when the files' rows were written."""
        (ranking,), (publishing,) = await self.jobs(id, "rank"), await self.jobs(id, "publish")
        read = await self.jobs(id, "read")
        written = await self.connection.fetchval("select max(read_at) from pipeline.module")
        assert FILES == len(read)
        assert ranking.claimed_at and ranking.finished_at and publishing.claimed_at
        return (
            written <= ranking.claimed_at
            and all(job.finished_at and job.finished_at <= ranking.claimed_at for job in read)
            and ranking.finished_at <= publishing.claimed_at
        )

    async def same_without_queue(self) -> bool:
        """Each file's row, and the report of all, are what the plain functions give."""
        alone = {str(path): imported_by(path.read_bytes()) for path in self.files}
        rows = await self.connection.fetch("select path, imports from pipeline.module")
        lines = [line.split() for line in self.report.read_text().splitlines()]
        counts = [int(files) for files, _ in lines]
        assert alone == {row["path"]: row["imports"] for row in rows}
        assert Counter(name for imports in alone.values() for name in imports) == {name: int(n) for n, name in lines}
        return counts == sorted(counts, reverse=True)


@pytest_asyncio.fixture
async def pipeline(empty_database: str, tmp_path: Path) -> AsyncIterator[Pipeline]:
    """A pipeline that has not started; its app is open."""
    folder = tmp_path / "library"
    for path in python_files(LIBRARY):
        copy = folder / path.relative_to(LIBRARY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    with app.override(dsn=empty_database):
        connection = await asyncpg.connect(empty_database)
        try:
            await app.migrate()
            async with app:
                yield Pipeline(folder, empty_database, connection)
        finally:
            await connection.close()


async def test_a_killed_run_goes_on_where_it_was(pipeline: Pipeline) -> None:
    """Its worker is killed half-way, while one file holds up the rest: nothing later has begun; another ends it all."""
    id = await pipeline.start()
    async with pipeline.worker("killed.log") as worker, pipeline.connection.transaction():
        await pipeline.connection.execute(SAVE, str(pipeline.files[-1]), [])  # its job waits for our row
        await wait_until(lambda: has_completed(id, FILES // 2), "half of the files are read")
        await worker.stop(SIGKILL)
        bundle = await app.bundles.get(id)
        later = [*await pipeline.jobs(id, "rank"), *await pipeline.jobs(id, "publish")]
        assert not pipeline.report.exists()
    assert (False, FILES + 3) == (bundle.finished, bundle.added)
    assert [JobState.BLOCKED] * 2 == [job.state for job in later]

    async with pipeline.worker("next.log") as worker:
        waited = await pipeline.bundles("wait", id)
        assert (0, f"completed: {FILES + 3} completed\n") == (waited.code, waited.out), waited.err
        assert 0 == await worker.stop(), worker.said
    assert await pipeline.stages_in_order(id)
    assert await pipeline.same_without_queue()


async def test_a_file_that_is_no_python_is_repaired_and_the_run_goes_on(pipeline: Pipeline) -> None:
    """Slow files are asked for again; one that is broken cancels what needs it and sounds the alarm, once a round.

    A retry before the repair does no harm; after it, only that file is read again, and the rest of the stages runs.
    """
    broken = pipeline.files[7]
    whole = broken.read_text()
    broken.write_text(f"{whole}\nprint 1\n")
    async with pipeline.worker("worker.log") as worker:
        id = await pipeline.start()
        for round in (1, 2):
            waited = await pipeline.bundles("wait", id)
            assert (1, f"dead: {FILES} completed, 2 cancelled, 1 dead\n") == (waited.code, waited.out), waited.err
            assert not pipeline.report.exists()
            later = [*await pipeline.jobs(id, "rank"), *await pipeline.jobs(id, "publish")]
            assert [(JobState.CANCELLED, "dependency")] * 2 == [(job.state, job.reason) for job in later]
            await wait_until(lambda round=round: alarms(pipeline, id, broken, round), "the alarm names the file")
            if round == 2:
                broken.write_text(whole)
            assert 0 == (await pipeline.bundles("retry", id)).code
        waited = await pipeline.bundles("wait", id)
        assert (0, f"completed: {FILES + 3} completed\n") == (waited.code, waited.out), waited.err
        assert 0 == await worker.stop(), worker.said

    assert 3 == (await app.bundles.get(id)).round
    assert await pipeline.stages_in_order(id)
    assert await pipeline.same_without_queue()
    errors = {job.id: [error.error_class for error in job.errors] for job in await pipeline.jobs(id, "read")}
    assert sum(map(is_slow, pipeline.files)) == sum("ConnectionError" in each for each in errors.values())


def test_there_is_something_to_read() -> None:
    """The library has enough files, all of them whole, some of them slow."""
    files = python_files(LIBRARY)

    assert FILES == len(files)
    assert 0 < sum(map(is_slow, files)) < FILES
    for path in files:
        imported_by(path.read_bytes())


@pytest.mark.parametrize(
    ("source", "imports"),
    [
        ("import os.path, sys\nimport os", ["os", "sys"]),
        ("def late():\n    from email.message import Message", ["email"]),
        ("from . import here\nfrom .here import it\nfrom .. import there", []),
        ("", []),
    ],
)
def test_what_a_file_imports(source: str, imports: list[str]) -> None:
    """Top-level names, each once, wherever they are imported; its own package is none of them."""
    assert imports == imported_by(source.encode())


async def has_completed(id: UUID, jobs: int) -> bool:
    """True if so many members of the run are completed."""
    return (await app.bundles.get(id)).completed >= jobs


async def alarms(pipeline: Pipeline, id: UUID, broken: Path, round: int) -> bool:
    """True once the alarm was sounded in each round, for this file."""
    calls = [job for job in await pipeline.jobs(id, "alarm") if job.state is JobState.COMPLETED]
    results = [(await app.jobs.get(job.id)).result for job in calls]
    assert all(str(broken) in str(result) and "SyntaxError" not in str(result) for result in results)
    return round == len(calls)
