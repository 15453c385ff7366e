"""The first file that a newcomer runs, beside a worker in another process."""

import re
from pathlib import Path

from tests.examples.programs import run, running


async def test_the_quickstart_prints_the_result(database: str, tmp_path: Path) -> None:
    """The script defers, a worker process runs the job, the script prints its result; then the worker drains."""
    async with running(
        "-m", "jobqueue", "worker", "examples.quickstart:app", dsn=database, log=tmp_path / "w"
    ) as worker:
        await worker.says("worker.started")
        ended = await run("examples/quickstart.py", dsn=database)
        code = await worker.stop()

    assert 0 == ended.code, ended.err
    assert "" == ended.err
    assert re.fullmatch(r"deferred: [0-9a-f-]{36}\nresult: 'Welcome' is on its way to ada@example\.org\n", ended.out)
    assert 0 == code, worker.said
