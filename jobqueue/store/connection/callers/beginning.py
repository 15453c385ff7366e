"""A transaction begun by us on what a caller has, so that it commits at the end of our block."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from jobqueue.base.errors import InvalidOption
from jobqueue.store.connection.callers.choosing import executor_on
from jobqueue.store.connection.callers.telling import is_in_transaction, is_of
from jobqueue.store.connection.executor import Executor


@contextlib.asynccontextmanager
async def begun(given: Any, schema: str) -> AsyncIterator[tuple[Any, Executor]]:
    """A connection or session, or one that `given` makes, in a transaction, with the executor on it.

    Raises InvalidOption for what is in a transaction already: that one is for somebody else to commit.
    """
    if callable(given) and not hasattr(given, "scalar"):  # a maker of sessions; a scoped session can be called, too
        made = given()
        opened = made if hasattr(made, "__aenter__") else contextlib.nullcontext(made)  # which may have to be refused
        async with opened as session, begun(session, schema) as both:
            yield both
        return
    executor = executor_on(given, schema)
    through_sqlalchemy = is_of("sqlalchemy", given)
    if _is_inside(given):
        raise InvalidOption("connection", "is in a transaction; ctx.transaction begins and commits one of its own")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(given.begin() if through_sqlalchemy else given.transaction())
        if through_sqlalchemy:  # which begins when it likes; never, if its engine is in AUTOCOMMIT
            await stack.enter_async_context(executor.transaction())
        yield given, executor


def _is_inside(given: Any) -> bool:
    if is_of("sqlalchemy", given):
        return bool(given.in_transaction())
    return is_of("tortoise", given) or is_of("piccolo", given) or is_in_transaction(given)  # the two are transactions
