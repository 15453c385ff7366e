"""The network between real workers and PostgreSQL fails: connections end, fall silent, lose an answer."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.jobs.working import all_ended, asleep, claims_held, claims_left, counted, one_waits
from tests.support.patience import stretched
from tests.support.postgres.backends import LISTENS, becomes, terminate
from tests.support.postgres.proxy import Proxy
from tests.support.programs.notebook import Notebook
from tests.support.waiting import wait_until

SHORT_LIMITS = f"""
import jobqueue.store.connection.listener as listener, jobqueue.store.connection.pool as pool
listener._PROBE_INTERVAL, listener._PROBE_LIMIT = {stretched(0.5)}, {stretched(0.5)}  # instead of 10 and 5 s
pool.STATEMENT_LIMIT, pool.CONNECT_LIMIT = {stretched(1.5)}, {stretched(1.5)}  # instead of 10 s
"""
"""What a worker notices a silent network by, so short that a test can wait for it."""


class Line(Proxy):
    """A way to the server that can also lose its memory, as a firewall does that is restarted."""

    def forget(self) -> None:
        """Open connections stay silent for ever, with no word to either side; new ones work."""
        self.stall()
        self._questions, self._answers = type(self._questions)(), type(self._answers)()
        self.let_pass()


@asynccontextmanager
async def line_to(dsn: str) -> AsyncIterator[Line]:
    line = Line(dsn)
    await line.start()
    try:
        yield line
    finally:
        await line.close()


async def test_wake_ups_come_back_with_a_new_listener(own: str, tmp_path: Path) -> None:
    """S1-09, C7: an ended listening connection is replaced; jobs of the gap, ready or delayed ones start promptly."""
    async with Notebook(tmp_path, own) as book:
        (worker,) = await book.workers(1)
        for lost in (1, 2):
            await asleep(own)
            await becomes(own, 1, LISTENS)
            assert 1 == await terminate(own, LISTENS)
            gap = await book.note.defer()
            await book.have_begun(gap.id)
            await wait_until(lambda: len(book.events(worker, "listener.ready")) == lost + 1, "it listens")  # noqa: B023 - used at once
            await all_ended(own)

            await asleep(own)
            ready = await book.note.defer()
            await book.have_begun(ready.id)
            await asleep(own)
            due, delayed = time.monotonic() + 0.5, await book.note.options(delay=0.5).defer()
            await book.have_begun(delayed.id)
            assert book.lines()[-1].at >= due
        await all_ended(own)
        assert {1: 6} == book.runs()


async def test_a_silent_network_heals(own: str, tmp_path: Path) -> None:
    """C5, C7: after silence, whether connections survive it or not, the jobs of the gap run soon and wake-ups work."""
    async with line_to(own) as line, Notebook(tmp_path, own) as book:
        book.cli.module("notebook", (tmp_path / "notebook.py").read_text() + SHORT_LIMITS)
        (worker,) = await book.workers(1, NOTEBOOK_DSN=line.dsn)
        for heal in (line.let_pass, line.forget):
            lost = len(book.events(worker, "listener.lost"))
            await asleep(own)
            line.stall()
            gap = await book.note.defer()
            await wait_until(lambda: len(book.events(worker, "listener.lost")) > lost, "the silence is noticed")  # noqa: B023 - used at once
            assert not book.began([gap.id])
            heal()
            await book.have_begun(gap.id)
            await all_ended(own)

            await asleep(own)
            later = await book.note.defer()
            await book.have_begun(later.id)
        await all_ended(own)
        assert {1: 4} == book.runs()


async def test_silence_in_mid_work_loses_nothing(own: str, tmp_path: Path) -> None:
    """C5, C16: jobs run on while their worker's network is silent; their outcomes are written once it works."""
    async with line_to(own) as line, Notebook(tmp_path, own) as book:
        book.cli.module("notebook", (tmp_path / "notebook.py").read_text() + SHORT_LIMITS)
        (worker,) = await book.workers(1, "--concurrency", "10", NOTEBOOK_DSN=line.dsn)
        await book.app.defer_many([book.note.job(0.3) for _ in range(30)])
        await wait_until(lambda: len(book.lines()) >= 10, "some run")
        line.stall()
        await wait_until(lambda: book.events(worker, "database.unreachable", doing="finish"), "it cannot write")
        line.forget()
        await all_ended(own)

        assert {1: 30} == book.runs()
        assert [] == book.events(worker, "job.refused")


async def test_a_claim_without_an_answer(own: str, tmp_path: Path) -> None:
    """A5: jobs whose claim committed but whose answer was lost run soon after, each once, none waits for its lease."""
    async with line_to(own) as line, Notebook(tmp_path, own) as book:
        await book.workers(1, "--concurrency", "10", NOTEBOOK_DSN=line.dsn)
        async with claims_held(own):
            await book.app.defer_many([book.note.job() for _ in range(10)])
            await one_waits(own)
            line.lose_answers()

        async def are_claimed() -> bool:
            return 10 == await counted(own, "state = 'running'")

        await wait_until(are_claimed, "the claim is committed")
        await book.workers(1)  # another, which may take them as well
        line.cut()
        line.let_pass()
        await all_ended(own)

        assert {1: 10} == book.runs()
        assert {1} == {line.attempt for line in book.lines()}
        assert [] == await claims_left(own)
