"""The demonstration: indexes files with two worker processes, checks itself, ends well or says why not."""

import hashlib
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from examples.code_index.__main__ import Index, report
from examples.code_index.measure import LIBRARY, EmptyFile, Measures, library_files, measure
from jobqueue import App, JobState
from tests.examples.programs import Ended, Program, processes_with, run, running
from tests.support.waiting import wait_until

DEMO = ("-m", "examples.code_index")


async def test_the_demo_succeeds_twice_in_a_row(empty_database: str, tmp_path: Path) -> None:
    """The demo brings its tables, ends with its verdict and exit code 0, a second time too, and leaves no process.

    S2-18: the command that it ends with serves the dashboard on what it has left, such as the files that failed.
    """
    await succeeds(empty_database)
    ended = await succeeds(empty_database)

    python, *command = ended.out.splitlines()[-1].split()
    assert Path(sys.executable) == Path.cwd() / python
    async with running(*command, "--http", "127.0.0.1:0", dsn=empty_database, log=tmp_path / "web.log") as web:
        await web.says("Ctrl-C")
        address = re.search(r"open +(http://\S+)", web.said)
        assert address is not None
        async with httpx.AsyncClient(base_url=address[1], trust_env=False) as browser:
            assert "EmptyFile" in (await browser.get("/errors")).text
        assert 0 == await web.stop()


async def test_a_dead_worker_is_reported(database: str, tmp_path: Path) -> None:
    """When a worker process is killed, the demo shows the end of its log, ends the other one and exits with 1."""
    async with running(*DEMO, dsn=database, log=tmp_path / "demo.log") as demo:
        workers = await its_workers(demo)
        workers[0].kill()
        code = await demo.end()

    assert 1 == code
    assert f"worker process {workers[0].pid} ended with exit code -9" in demo.said
    assert [] == processes_with(queue_of(demo.said))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_a_stopped_demo_drains_its_workers(how: signal.Signals, database: str, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end the workers in good order: no process is left, and no job is left as running."""
    app = App(database, schema="code_index")
    async with running(*DEMO, dsn=database, log=tmp_path / "demo.log") as demo:
        await its_workers(demo)
        async with app:
            await wait_until(lambda: completed(app, queue_of(demo.said)), "some files are indexed")
            code = await demo.stop(how)
            counts = (await app.jobs.counts()).by_queue[queue_of(demo.said)]

    assert 130 == code
    assert "Stopped." in demo.said
    assert [] == processes_with(queue_of(demo.said))
    assert len(library_files()) == sum(counts.values())
    assert JobState.RUNNING not in counts


def test_the_demo_finds_every_difference(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong hash, a missing row, an additional row and another error each fail the demo's check."""
    right = measure("abc.py")
    alone = Index({"abc.py": right}, {"bad.py": "SyntaxError after 3 attempts"})
    wrong = (
        Index({"abc.py": replace(right, sha256="0" * 64)}, alone.errors),
        Index({}, alone.errors),
        Index(alone.measures | {"more.py": right}, alone.errors),
        Index(alone.measures, {"bad.py": "SyntaxError after 1 attempts"}),
        Index(alone.measures, {}),
    )

    assert 0 == report(alone, alone, 1.0)
    for queued in wrong:
        assert 1 == report(queued, alone, 1.0)
        assert "1 files differ" in capsys.readouterr().out


def test_the_library_is_the_standard_one() -> None:
    """The files of the index exist, are those of Python itself, and none was installed or compiled."""
    files = library_files()

    assert {"abc.py", "asyncio/tasks.py"} <= set(files)
    assert [] == [path for path in files if "site-packages" in path or "__pycache__" in path]
    assert [] == [path for path in files if not (LIBRARY / path).is_file()]


def test_measures_are_those_of_the_file(tmp_path: Path) -> None:
    """Bytes, lines and definitions are counted, nested ones too, in the encoding that the file names."""
    source = "# coding: latin-1\nclass Café:\n    async def sit(self):\n        def drink(): ...\n".encode("latin-1")
    (tmp_path / "cafe.py").write_bytes(source)

    found = measure(str(tmp_path / "cafe.py"))

    assert Measures(hashlib.sha256(source).hexdigest(), len(source), 4, 2, 1) == found


@pytest.mark.parametrize(("source", "error"), [(b" \n", EmptyFile), (b"print 1", SyntaxError), (b"\xff", SyntaxError)])
def test_what_cannot_be_indexed_raises(source: bytes, error: type[Exception], tmp_path: Path) -> None:
    """Blank files, other languages and other encodings are errors, so that their jobs fail."""
    (tmp_path / "bad.py").write_bytes(source)

    with pytest.raises(error):
        measure(str(tmp_path / "bad.py"))


async def succeeds(dsn: str) -> Ended:
    """A run of the demo that came to its good end."""
    ended = await run(*DEMO, "--limit", "60", dsn=dsn)
    assert 0 == ended.code, ended.out + ended.err
    assert "Every row, hashes included, is the same." in ended.out
    verdict = re.search(r"^(\d+) completed, (\d+) dead in \d+\.\d s$", ended.out, re.MULTILINE)
    assert verdict is not None, ended.out
    assert f"The last job says: {verdict[1]} files with " in ended.out
    completed, dead = map(int, verdict.groups())
    assert 60 == completed + dead
    assert completed >= 2
    assert dead >= 2
    assert [] == processes_with(queue_of(ended.out))
    return ended


def queue_of(said: str) -> str:
    """The queue of a run, which is in the command lines of its workers."""
    found = re.search(r"--queues (code_index-[0-9a-f]{8})", said)
    assert found is not None, said
    return found[1]


async def completed(app: App, queue: str) -> int:
    """How many jobs of a run are completed."""
    return (await app.jobs.counts()).by_queue[queue].get(JobState.COMPLETED, 0)


async def its_workers(demo: Program) -> list[psutil.Process]:
    """The worker processes of a demo, once they are at work."""
    await demo.says("--queues")
    queue = queue_of(demo.said)

    def found() -> list[psutil.Process]:
        children = psutil.Process(demo.process.pid).children()
        return [child for child in children if queue in child.cmdline()]

    await wait_until(lambda: len(found()) == 2, "both workers run")
    return found()
