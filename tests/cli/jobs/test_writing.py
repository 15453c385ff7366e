"""What is written where it cannot be: another encoding, a full disk, a reader that has gone; an outage meanwhile."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import psycopg
import pytest

from tests.cli.conftest import Shop
from tests.support.postgres.backends import LISTENS
from tests.support.postgres.own_server import TEMPLATE, OwnServer, own_server
from tests.support.programs.processes import CommandLine, full_disk, gone_reader
from tests.support.waiting import wait_until


async def test_what_an_encoding_lacks_is_escaped(cli: CommandLine, shop: Shop) -> None:
    """S4-97, S4-98: a pipe that is not UTF-8 gets escapes, no traceback."""
    shop.defer("wait", '{"seconds": 471147114711}', "männer")
    worker = cli.start("worker", "shop", "--drain-timeout", "0.01")
    await worker.says("waiting")

    listed = await cli.run("queues", "list", "shop", PYTHONIOENCODING="ascii")
    top = await cli.run("top", "shop", PYTHONIOENCODING="ascii")

    assert (0, "") == (listed.code, listed.err)
    assert r"m\xe4nner" in listed.out
    assert (0, "") == (top.code, top.err)
    assert r"\u2026" in top.out
    worker.signal(15)
    assert 3 == await worker.ends()


@pytest.mark.parametrize(
    ("to", "code", "told"),
    [(full_disk, 1, "jobqueue: cannot write: No space left on device\n"), (gone_reader, 1, "")],
    ids=["full", "pipe"],
)
async def test_a_failed_write_is_told_as_such(
    cli: CommandLine, shop: Shop, to: Callable[[], AbstractContextManager[int]], code: int, told: str
) -> None:
    """S4-98: not as the database's fault; who reads no further is told nothing."""
    for number in range(300):
        shop.defer("note", json.dumps({"n": number}))
    for words in ("jobs list shop --limit 300 --payload --json", "top shop"):
        with to() as into:
            answer = await cli.run_into(into, *words.split(), PYTHONUNBUFFERED="")
        assert (code, told) == (answer.code, answer.err)


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with own_server() as server:
        yield server


async def test_a_wait_outlives_the_database(server: OwnServer, cli: CommandLine) -> None:
    """S4-12: `jobs wait` says once, in a sentence, that the database is away, and waits on."""
    await server.start()
    with server.databases.temporary(TEMPLATE) as dsn:
        shop = Shop(cli, dsn)
        id = shop.defer("note", '{"n": 1}')
        shop.close()
        waiting = cli.start("jobs", "wait", id, "--dsn", dsn)
        await wait_until(lambda: listens(dsn), "it listens")
        await server.stop("immediate")
        await waiting.says("jobqueue: the database is away; still waiting\n")
        await server.start()
        await wait_until(lambda: listens(dsn), "it listens again")
        assert 0 == (await cli.run("worker", "shop", "--burst")).code
        assert 0 == await waiting.ends()
    assert ("completed\n", "jobqueue: the database is away; still waiting\n") == (waiting.out, waiting.err)
    await server.stop("immediate")


def listens(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(f"select 1 from pg_stat_activity where {LISTENS}").fetchone()
        return found is not None
