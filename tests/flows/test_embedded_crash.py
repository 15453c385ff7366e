"""The embedded server is killed under those who use it."""

import os
import signal

from tests.support.jobs.working import all_ended, archived
from tests.support.postgres.embedded import embedded_project, is_down, joined, server_pid
from tests.support.programs.notebook import Notebook
from tests.support.waiting import wait_until


async def test_the_next_user_brings_the_embedded_server_back() -> None:
    """S4-33, C9: a worker outlives the death of its embedded server, and works on when another user has started it.

    Until somebody joins it stays down: the worker goes on asking, and does not start it.
    """
    async with (
        embedded_project() as folder,
        joined(folder) as user,
        Notebook(folder.parent, user.dsn, NOTEBOOK_DSN="") as book,
    ):
        await book.app.migrate()
        (worker,) = await book.workers(1)
        held = await book.note.defer(0, "held")
        await book.have_begun(held.id)
        os.kill(server_pid(folder), signal.SIGKILL)
        await wait_until(lambda: is_down(folder), "the server is down")
        book.let_go(held.id)
        await wait_until(lambda: len(book.events(worker, "listener.lost")) >= 3, "it has noticed")
        async with joined(folder) as next_user:
            assert (True, user.dsn) == (next_user.started, next_user.dsn)
            await all_ended(user.dsn)
            later = await book.note.defer()
            await book.have_begun(later.id)
            await all_ended(user.dsn)
            assert ({1: 2}, 2) == (book.runs(), await archived(user.dsn))
            worker.signal(signal.SIGTERM)
            assert 0 == await worker.ends()
