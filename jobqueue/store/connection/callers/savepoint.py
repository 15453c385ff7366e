"""What is begun on a caller's connection, and must not be done by halves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from jobqueue.base.errors import DuplicateJob
from jobqueue.base.service import outlast
from jobqueue.store.connection.executor import KeyChangedHands

_UNDO_LIMIT = 5.0


@contextlib.asynccontextmanager
async def savepoint(
    execute: Callable[[str], Awaitable[object]], *, can_be_cancelled: bool = True
) -> AsyncIterator[None]:
    """In SQL, not by the libraries' own means: those know nothing of a transaction that was begun by SQL.

    What is inside is undone if it is cancelled, or interrupted, at any time before the release is sent. One that is cut
    off while the server does it may have been done: then what is inside stays, as with a commit that was cut off.
    """
    await execute("savepoint jobqueue_defer")
    try:
        yield
        if can_be_cancelled:
            await asyncio.sleep(0)  # a cancellation that has come with the last answer takes effect here
    except (DuplicateJob, KeyChangedHands):
        await _undo(execute)
        raise
    except asyncio.CancelledError:  # between two statements it would leave half of them in the caller's transaction
        with contextlib.suppress(Exception):  # of whichever library: the cancellation is what the caller is to see
            undoing = asyncio.ensure_future(_undo(execute))
            if await outlast(undoing, _UNDO_LIMIT):
                undoing.result()
        raise
    except BaseException as error:
        # A Ctrl-C, or what else ends a program, may come between two statements as well. An error of the database's is
        # the caller's to deal with, as any other that they have in their transaction.
        if not can_be_cancelled and not isinstance(error, Exception):
            with contextlib.suppress(Exception):
                await _undo(execute)
        raise
    await execute("release savepoint jobqueue_defer")


async def _undo(execute: Callable[[str], Awaitable[object]]) -> None:
    await execute("rollback to savepoint jobqueue_defer")
    await execute("release savepoint jobqueue_defer")
