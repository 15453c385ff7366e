"""`app.limits`: look at limits and their lines, change them while jobs run."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jobqueue.base.acting.audit import By, Doer
from jobqueue.base.errors import InvalidOption, UnknownLimit
from jobqueue.base.flows.limit import MOST, Key, LimitLine, LimitStats, Rate, Rule, key_text
from jobqueue.base.log import get_logger
from jobqueue.base.names import check_name, check_whole
from jobqueue.store.acting.audit import noting
from jobqueue.store.connection.edge import executor_for
from jobqueue.store.connection.executor import Executor, Reader
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows import limits
from jobqueue.store.flows.limits import GateState, LimitRow, LimitState

_BUSIEST = 3
_PAGE_LIMIT = 1_000
_COUNTED = 100_000

log = get_logger(__name__)


class Limits:
    """Looks at the limits that workers have declared, and changes them for every worker there is."""

    def __init__(
        self, database: Callable[[], Awaitable[Database]], on: Callable[[object], Executor] | None = None
    ) -> None:
        """`on` gives the executor for a caller's connection; None where nobody has one."""
        self._database = database
        self._on = on

    async def list(self, *, connection: object | None = None) -> Sequence[LimitStats]:
        """All limits by name, with what they hold, who waits, and the keys with the longest lines.

        Counts all who wait: some milliseconds for 100 000. With `connection` as the caller's transaction sees them.
        """
        async with self._executor(connection) as executor:
            return [await _with_busiest(executor, state) for state in await limits.read_limits(executor)]

    async def get(self, name: str, *, connection: object | None = None) -> LimitStats:
        """One of them. Raises UnknownLimit."""
        async with self._executor(connection) as executor:
            return await _with_busiest(executor, await _known(executor, name))

    async def set(
        self,
        name: str,
        *,
        concurrency: int | None = None,
        rate: Rate | None = None,
        by: Doer | None = None,
        connection: object | None = None,
    ) -> LimitStats:
        """Change a limit for all workers, at once, until `reset`, whatever code declares meanwhile.

        What is not given stays as it is. What runs goes on; with a `concurrency` of 0 nothing more begins. Only what
        was declared can be changed: the gates of jobs that wait are made for that. `connection` joins the caller's
        transaction; `by` is who does it, for the audit. Raises UnknownLimit, InvalidOption.
        """
        wanted, doer = _checked(concurrency, rate), By.of(by)
        always = connection is not None or doer is not None
        async with self._executor(connection) as executor:
            _refuse_other_kind((await _known(executor, name)).declared, concurrency, rate)
            async with noting(executor, doer, "limit.set", limit=name, **wanted):
                if not await limits.change(executor, name, wanted, always=always):
                    raise UnknownLimit(name)
            return await _changed(executor, name)

    async def reset(self, name: str, *, by: Doer | None = None, connection: object | None = None) -> LimitStats:
        """What code declares counts again. `connection` joins the caller's transaction. Raises UnknownLimit."""
        check_name("name", name)
        doer = By.of(by)
        always = connection is not None or doer is not None
        async with self._executor(connection) as executor:
            async with noting(executor, doer, "limit.reset", limit=name):
                if not await limits.reset(executor, name, always=always):
                    raise UnknownLimit(name)
            return await _changed(executor, name)

    async def lines(
        self, name: str, limit: int = 50, *, key: Key = None, connection: object | None = None
    ) -> Sequence[LimitLine]:
        """Who holds a place and who waits, by key, the longest lines first; with `key` that one alone.

        Raises UnknownLimit, InvalidOption.
        """
        if check_whole("limit", limit, (1, _PAGE_LIMIT)) is None:
            raise InvalidOption("limit", f"must be a whole number from 1 to {_PAGE_LIMIT}")
        text = _key(key)
        async with self._executor(connection) as executor:
            await _known(executor, name)
            return [_line(gate) for gate in await limits.lines(executor, name, limit, text)]

    async def recount(self, name: str, *, by: Doer | None = None, connection: object | None = None) -> int:
        """Count the places of a limit anew, from its jobs; at how many keys the number was wrong, which none should be.

        Looks at all unfinished jobs; nothing is admitted there meanwhile. Raises UnknownLimit.
        """
        doer = By.of(by)
        async with self._executor(connection) as executor:
            await _known(executor, name)
            async with noting(executor, doer, "limit.recount", limit=name) as row:
                corrected = await limits.recount(executor, name)
                row.what["corrected"] = corrected
            return corrected

    def _executor(self, connection: object | None) -> contextlib.AbstractAsyncContextManager[Executor]:
        return executor_for(connection, self._on, self._database)


async def busiest_limits(reader: Reader, most: int) -> list[LimitStats]:
    """Those at which somebody waits, the longest lines first, at most so many."""
    waiting = await limits.waiting_at_limits(reader, _COUNTED)
    names = sorted((name for name in waiting if waiting[name]), key=lambda name: (-waiting[name], name))
    return [
        await _with_busiest(reader, each) for name in names[:most] for each in await limits.read_limits(reader, name)
    ]


async def limits_now(reader: Reader, name: str | None = None) -> list[LimitStats]:
    """All limits, or one if it was ever declared, by name; without the keys that are busiest."""
    return [_stats(state) for state in await limits.read_limits(reader, name)]


async def lines_now(reader: Reader, name: str, room: int) -> list[LimitLine]:
    """The longest lines of a limit, at most so many."""
    return [_line(gate) for gate in await limits.lines(reader, name, room)]


async def _known(executor: Reader, name: str) -> LimitState:
    check_name("name", name)
    for state in await limits.read_limits(executor, name):
        return state
    raise UnknownLimit(name)


async def _changed(executor: Reader, name: str) -> LimitStats:
    now = _stats(await _known(executor, name))
    log.info("limit.changed", limit=name, concurrency=now.concurrency, rate=str(now.rate), by_hand=bool(now.changed))
    return now


async def _with_busiest(executor: Reader, state: LimitState) -> LimitStats:
    stats = _stats(state)
    if not state.waiting:
        return stats
    busiest = await limits.lines(executor, state.row.name, _BUSIEST)
    return replace(stats, busiest=tuple(_line(gate) for gate in busiest if gate.key is not None))


def _key(key: Key) -> str | None:
    """Raises InvalidOption."""
    try:
        return key_text(key)
    except ValueError as error:
        rule = str(error)
    raise InvalidOption("key", rule)


def _checked(concurrency: int | None, rate: Rate | None) -> Mapping[str, Any]:
    """What is to be changed. Raises InvalidOption."""
    given: object = rate
    if not isinstance(given, Rate | None):
        raise InvalidOption("rate", f"must be Rate(count, per), not {type(given).__name__}")
    if concurrency is None and rate is None:
        raise InvalidOption("concurrency", "say what is to be changed: concurrency=, rate=, or both")
    said: dict[str, Any] = {}
    if check_whole("concurrency", concurrency, (0, MOST)) is not None:
        said["concurrency"] = concurrency
    if rate is not None:
        said |= {"count": rate.count, "per": rate.seconds, "burst": rate.burst}
    return said


def _refuse_other_kind(declared: LimitRow, concurrency: int | None, rate: Rate | None) -> None:
    """Gates are named, and ordered, by what their limit is. Raises InvalidOption."""
    if concurrency is not None and declared.concurrency is None:
        raise InvalidOption("concurrency", f"limit {declared.name!r} is declared without one: only its rate can change")
    if rate is not None and declared.count is None:
        raise InvalidOption("rate", f"limit {declared.name!r} is declared without one: only its concurrency can change")
    if declared.ordered and concurrency is not None and concurrency > 1:
        raise InvalidOption("concurrency", f"limit {declared.name!r} is ordered: 1, or 0 to let nothing begin")


def _stats(state: LimitState) -> LimitStats:
    now, changed = _rule(state.row), state.changed
    return LimitStats(
        name=state.row.name,
        concurrency=now.concurrency,
        rate=now.rate,
        ordered=state.row.ordered,
        declared=_rule(state.declared),
        changed=Rule(now.concurrency if "concurrency" in changed else None, now.rate if "count" in changed else None)
        if changed
        else None,
        held=state.held,
        waiting=state.waiting,
        oldest_wait=state.oldest,
        declared_by=state.declared_by,
        declared_at=state.declared_at,
        changed_at=state.changed_at,
    )


def _rule(row: LimitRow) -> Rule:
    if row.count is None or row.per is None:
        return Rule(row.concurrency)
    try:
        return Rule(row.concurrency, Rate(row.count, row.per, row.burst))
    except InvalidOption:  # plain SQL has written a rate that is none
        return Rule(row.concurrency)


def _line(gate: GateState) -> LimitLine:
    return LimitLine(gate.key, gate.held, gate.waiting, gate.oldest, gate.free_in)
