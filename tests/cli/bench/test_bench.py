"""`bench`: what it shows, what it refuses, and that nothing of it stays, however it ends."""

import json
import re
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import Shop
from tests.support.jobs.store import connect
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import becomes, change
from tests.support.programs.processes import CommandLine, Process, full_disk, gone_reader
from tests.support.programs.terminal import terminal
from tests.support.waiting import wait_until

SMALL = ("bench", "--jobs", "100", "--repeats", "1")
ENDLESS = ("bench", "--jobs", "100", "--repeats", "100", "--only", "drain")
LONG = 4 * PATIENCE


async def schemas(dsn: str) -> set[str]:
    """Those that somebody has made; not the one that cleans the database."""
    async with connect(dsn) as connection:
        rows = await connection.fetch(
            "select nspname from pg_namespace where nspname !~ '^(pg_|information_schema|jobqueue_tests)'"
        )
    return {row["nspname"] for row in rows}


def workers(bench: Process) -> list[psutil.Process]:
    """The processes that a bench has started."""
    return psutil.Process(bench.pid).children()


async def test_it_measures_and_cleans_up(cli: CommandLine, empty_database: str) -> None:
    """As JSON: settings, and for each measurement rows, samples and what its processes took; the schema is gone."""
    answer = await cli.run(*SMALL, "--only", "bulk,drain,latency", "--json", JOBQUEUE_DSN=empty_database)

    assert (0, "") == (answer.code, answer.err)
    document = json.loads(answer.out)
    assert {"version", "database", "jobs", "repeats", "settings", "measurements"} == set(document)
    assert {"PostgreSQL", "fsync", "synchronous_commit", "cores", "Python", "uvloop"} <= set(document["settings"])
    bulk, drain, latency = document["measurements"]
    assert {"name", "unit", "against", "rows", "samples", "processes"} == set(bulk)
    assert ("drain", "/s", "raw limit") == (drain["name"], drain["unit"], drain["against"])
    assert ("ms", 3) == (latency["unit"], len(latency["rows"]))
    (row,) = drain["rows"]
    assert row["ratio"] == row["ours"] / row["beside"]
    assert {"ours": [[row["ours"]]], "beside": [[row["beside"]]]} == drain["samples"]
    for side in ("ours", "beside"):
        assert {"cpu", "rss", "start"} == set(drain["processes"][side])
        assert min(drain["processes"][side].values()) > 0
    assert {"public"} == await schemas(empty_database)


async def test_it_can_be_read(tmp_path: Path, empty_database: str) -> None:
    """In a terminal of 80 columns no line is longer; without one there are the same rows, and nothing is drawn."""
    with terminal(tmp_path, *SMALL, "--only", "drain,history", "--dsn", empty_database) as shown:
        assert 0 == await shown.ends(LONG)
        raw, text = shown.raw, shown.text
    assert "run 1 of 1, measurement 1 of 2" in text
    for words in (
        "what ",
        "drain of no-ops, 1 worker process ",
        "history in the archive ",
        "first job s",
        "synchronous_commit",
    ):
        assert words in text
    lines = re.split(r"\x1b\[[\d;?]*[a-zA-Z]|[\r\n]", raw)
    assert [] == [line for line in lines if len(line.rstrip()) > 80 and "postgresql://" not in line]


async def test_rows_are_written_one_by_one(cli: CommandLine, empty_database: str) -> None:
    """Without a terminal there is a row as soon as it is measured, and Markdown if that is asked for."""
    bench = cli.start("bench", "--jobs", "100", "--repeats", "1", "--only", "drain,sleeps", "--dsn", empty_database)
    await wait_until(lambda: "drain of no-ops" in bench.out, "the first row is written", LONG)
    assert not bench.ended
    assert 0 == await bench.ends(LONG)
    assert "\x1b" not in bench.out

    answer = await cli.run(*SMALL, "--only", "drain", "--markdown", "--dsn", empty_database)
    assert (0, "| what | ours | raw limit | ratio |") == (answer.code, answer.out.splitlines()[0])
    assert answer.out.splitlines()[2].startswith("| drain of no-ops, 1 worker process | ")


async def test_a_schema_that_is_there_is_refused(cli: CommandLine, shop: Shop) -> None:
    """With jobs in it or without: one line, and nothing of it is touched."""
    shop.defer("note", '{"n": 1}')
    await change(shop.dsn, "create schema theirs")

    for schema in ("jobqueue", "theirs"):
        answer = await cli.run(*SMALL, "--dsn", shop.dsn, "--schema", schema)
        assert (1, "") == (answer.code, answer.out)
        assert answer.err.startswith(f"jobqueue: schema {schema} is there already")
        assert 1 == len(answer.err.splitlines())

    assert {"ready": 1} == shop.states()
    assert {"public", "jobqueue", "theirs"} == await schemas(shop.dsn)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--only", "drain,nap"), "--only: there is no 'nap'; there are defer-1, "),
        (("--schema", "My Schema"), "--schema: must be 1 to 48 lower-case letters"),
        (("--json", "--markdown"), "--json or --markdown, not both"),
        (("--jobs", "1"), "Invalid value for '--jobs'"),
    ],
)
async def test_wrong_usage_is_one_line(cli: CommandLine, words: tuple[str, ...], told: str) -> None:
    """What cannot be meant is said before any server is asked."""
    answer = await cli.run("bench", *words, "--dsn", "postgresql://nowhere.invalid/none")

    assert (2, "") == (answer.code, answer.out)
    assert answer.err.startswith(f"jobqueue: {told}")


async def test_a_server_that_is_not_there_is_one_line(cli: CommandLine) -> None:
    """The place is named, without its password."""
    answer = await cli.run("bench", "--dsn", "postgresql://me:secret@127.0.0.1:1/none")

    assert (1, "") == (answer.code, answer.out)
    assert answer.err.startswith("jobqueue: cannot work with postgresql://me:***@127.0.0.1:1/none: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_it_cleanly(cli: CommandLine, empty_database: str, number: int) -> None:
    """In the middle of a measurement: its processes end, the schema is dropped, a second signal changes nothing."""
    bench = cli.start(*ENDLESS, "--dsn", empty_database)
    await wait_until(lambda: workers(bench), "a worker runs", LONG)
    children = workers(bench)

    bench.signal(number)
    await bench.says("stopped; the schema is being dropped")
    bench.signal(number)

    assert 130 == await bench.ends()
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert {"public"} == await schemas(empty_database)


async def test_control_c_is_answered(tmp_path: Path, empty_database: str) -> None:
    """In a terminal the answer stands on a line of its own, below the row under way; and the cursor is back."""
    with terminal(tmp_path, *ENDLESS, "--dsn", empty_database) as shown:
        await shown.shows("run 2 of 100, measurement 1 of 1", LONG)
        shown.type("\x03")
        assert 130 == await shown.ends()
        assert "\njobqueue: stopped; the schema is being dropped\n" in shown.text
        assert shown.raw.rfind("\x1b[?25h") > shown.raw.rfind("\x1b[?25l")
    assert {"public"} == await schemas(empty_database)


async def test_its_processes_end_with_it(cli: CommandLine, empty_database: str) -> None:
    """A bench that is killed leaves its schema, but nobody who works there; the next one says what to do."""
    bench = cli.start(*ENDLESS, "--dsn", empty_database)
    await wait_until(lambda: workers(bench), "a worker runs", LONG)
    bench.signal(signal.SIGKILL)
    await bench.ends()

    await becomes(empty_database, 0)
    assert {"public", "jobqueue_bench"} == await schemas(empty_database)
    answer = await cli.run(*SMALL, "--dsn", empty_database)
    assert 1 == answer.code
    assert "drop schema jobqueue_bench cascade" in answer.err


async def test_a_worker_that_dies_fails_it(cli: CommandLine, empty_database: str) -> None:
    """No figure is made of half a run: one line says which way the process ended, and the schema is gone."""
    bench = cli.start(*ENDLESS, "--dsn", empty_database)
    await wait_until(lambda: workers(bench), "a worker runs", LONG)
    workers(bench)[0].kill()

    assert 1 == await bench.ends()
    assert bench.err.startswith("jobqueue: a process of the bench ended with -9")
    assert {"public"} == await schemas(empty_database)


@pytest.mark.parametrize(
    ("to", "code", "told"),
    [(full_disk, 1, "jobqueue: cannot write: No space left on device\n"), (gone_reader, 1, "")],
    ids=["full", "pipe"],
)
async def test_what_cannot_be_written_ends_it(
    cli: CommandLine, empty_database: str, to: Callable[[], AbstractContextManager[int]], code: int, told: str
) -> None:
    """A full disk and a reader that has gone are no fault of the database, and the schema is dropped."""
    with to() as into:
        answer = await cli.run_into(into, *ENDLESS, JOBQUEUE_DSN=empty_database)

    assert (code, told) == (answer.code, answer.err)
    assert {"public"} == await schemas(empty_database)
