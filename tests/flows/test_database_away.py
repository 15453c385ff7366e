"""PostgreSQL is restarted, crashes or stays away under real workers: nothing is lost, nothing runs twice."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.jobs.working import all_ended, archived, asleep, claims_left, counted
from tests.support.patience import scaled
from tests.support.postgres.backends import backends
from tests.support.postgres.own_server import OwnServer
from tests.support.programs.notebook import Notebook, Producer
from tests.support.waiting import wait_until

Fault = Callable[[OwnServer, str], Awaitable[None]]


async def fast(server: OwnServer, dsn: str) -> None:
    """`pg_ctl stop -m fast`."""
    await server.stop("fast")


async def immediate(server: OwnServer, dsn: str) -> None:
    """`pg_ctl stop -m immediate`: a crash of the whole server."""
    await server.stop("immediate")


async def backend_killed(server: OwnServer, dsn: str) -> None:
    """One backend is killed: the server throws everybody out and recovers by itself."""
    server.kill_backend((await backends(dsn, "application_name = 'notebook'"))[0])


async def all_killed(server: OwnServer, dsn: str) -> None:
    """SIGKILL to all processes of the server."""
    await server.kill()


FAULTS = [fast, immediate, backend_killed, all_killed]


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_idle_worker_finds_what_came_in_the_gap(
    server: OwnServer, own: str, tmp_path: Path, fault: Fault
) -> None:
    """S4-33, S1-09, C9: what is deferred before an idle worker has reconnected runs soon, with no further event.

    Its poll comes after the test. A delayed job and one for later find it awake as well.
    """
    async with Notebook(tmp_path, own) as book:
        (worker,) = await book.workers(1)
        await asleep(own)
        await fault(server, own)
        tries = (
            4 if server.pid is None else 1
        )  # it waits longer after each: so there is a gap after the server's return
        await wait_until(lambda: len(book.events(worker, "listener.lost")) >= tries, "it has noticed")
        await server.start()
        async with Producer(book) as gap:
            await gap.more(1)
        delayed = await book.note.options(delay=0.5).defer()
        await book.have_begun(*gap.stored, delayed.id)
        await all_ended(own)

        await asleep(own)
        later = await book.note.defer()
        await book.have_begun(later.id)
        assert {1: len(gap.stored) + 2} == book.runs()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_busy_server_goes_down_and_comes_back(
    server: OwnServer, own: str, tmp_path: Path, fault: Fault
) -> None:
    """C9, S1-18: with jobs coming and running all the time, each runs once, and claims go on within 2 s."""
    async with Notebook(tmp_path, own) as book:
        workers = await book.workers(2, "--concurrency", "5")
        async with Producer(book, seconds=0.02) as producer:
            for _ in range(2):
                await producer.more(40)
                await fault(server, own)
                await server.start()
                ready, so_far = time.monotonic(), len(book.lines())
                await wait_until(lambda: len(book.lines()) > so_far, "a job has begun")  # noqa: B023 - used at once
                assert book.lines()[so_far].at - ready < 2 + scaled(5)  # for a busy machine
            await producer.more(40)
        await all_ended(own)

        assert len(producer.stored) == await archived(own)
        assert {1: len(producer.stored)} == book.runs()
        assert book.began(producer.stored)
        assert [] == await claims_left(own)
        assert [[], []] == [book.events(worker, "job.refused") for worker in workers]


async def test_what_ends_while_the_database_is_away_is_held(server: OwnServer, own: str, tmp_path: Path) -> None:
    """A23, A24: fifty jobs end without a database; their outcomes are kept and written, and the log stays short."""
    async with Notebook(tmp_path, own) as book:
        (worker,) = await book.workers(1)
        handles = await book.app.defer_many([book.note.job(0, "held") for _ in range(50)])
        await wait_until(lambda: len(book.lines()) == 50, "all run")
        await server.stop("immediate")
        since = time.monotonic()
        book.let_go(*[handle.id for handle in handles])
        await wait_until(lambda: len(book.lines("ended")) == 50, "all have ended")
        await wait_until(lambda: time.monotonic() - since >= 3, "it is away for a while")
        parts = ("claim", "finish", "stage", "beat", "rescue")
        told = [len(book.events(worker, "database.unreachable", doing=doing)) for doing in parts]
        lost = len(book.events(worker, "listener.lost"))
        away = time.monotonic() - since
        assert told[1] > 0
        assert max(told) <= away + 2
        assert lost <= away + 5  # its first tries are close together
        await server.start()
        await all_ended(own)

        assert ({1: 50}, 50) == (book.runs(), await archived(own))
        assert [] == book.events(worker, "job.refused")
        assert 0 == await counted(own)
