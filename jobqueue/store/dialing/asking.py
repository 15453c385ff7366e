"""How the sessions of a pool get their settings: as they start, by their first words, or not at all.

What is set for a session that a pooler gives to others as well would hold for them. So one that is said to keep
sessions apart is put to the test first; until then, and behind all others, our transactions begin with the limits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.settings import Pooler
from jobqueue.store.dialing.dial import Dialer
from jobqueue.store.dialing.silence import (
    A_POOLER,
    SILENCE,
    STATEMENT_MS,
    UNHURRIED,
    WATCHED,
    begin,
    remedy,
    within_session,
    within_transaction,
)
from jobqueue.store.dialing.sockets import stop_and_cut

LOOK_LIMIT = 2.0
"""Seconds for a second connection to answer: a pooler lets it wait while it has none to the server."""

_WHAT_IS_THERE = """select current_setting('default_transaction_isolation') as isolation, version() as version,
pg_backend_pid() as pid, quote_ident(session_user) as role,
case when $1 then (select reset_val::integer from pg_settings where name = 'statement_timeout') end as limit"""
"""`limit`: milliseconds, whatever has been set in this session by now."""
_TURNS = 6
_WHO = "select pg_backend_pid()"


@dataclass(frozen=True, slots=True)
class Reached:
    """What the first connection leads to."""

    pid: int
    """Of the server's process that answered."""
    isolation: str
    for_handlers: Mapping[str, str]
    """Settings for what they do. What we have asked an administrator for is not for them; a limit of his own is."""
    remedy: str | None
    """SQL for an administrator, where nothing on the server limits our single statements."""


async def look(connection: Any, pooler: Pooler) -> Reached:
    """Ask once. Raises ConfigurationError if a pooler answers that nobody named."""
    (found,) = await connection.fetch(_WHAT_IS_THERE, pooler != "none")
    if pooler == "none" and found["pid"] != connection.get_server_pid():
        raise ConfigurationError(A_POOLER)
    return Reached(
        found["pid"],
        found["isolation"],
        {**(WATCHED if "linux" in found["version"] else {}), **(UNHURRIED if found["limit"] == STATEMENT_MS else {})},
        remedy(found["role"]) if pooler == "transaction" and found["limit"] == 0 else None,
    )


class Asked:
    """What is asked for the sessions of one pool."""

    def __init__(self, pooler: Pooler, settings: Mapping[str, str] | None = None, dialer: Dialer | None = None) -> None:
        """`dialer` opens them. Without one, and its settings, it is a pool of the user's."""
        self._by_transaction = pooler == "transaction"
        self._dialer = dialer
        self._words = within_session(settings or {}) if pooler == "session" else ""
        self.at_start = dict(settings or {}) if pooler == "none" else {}  # a pooler refuses what it does not know
        self.holds = bool(self.at_start)
        """Whether each session has what was asked for."""
        self.are_shared = False
        """Whether sessions were found to be shared by what was said to keep them apart."""

    @property
    def can_be_told(self) -> bool:
        """Whether sessions could have it, if they are kept apart, and have it not yet."""
        return bool(self._words) and not self.holds

    @property
    def begin(self) -> str:
        """SQL that begins a transaction of ours, with the limits that its session could not be given."""
        return begin(limited=self.holds)

    def begin_for_handler(self, more: Mapping[str, str]) -> str:
        """SQL for the start of a handler's transaction, where its session cannot be told; none elsewhere."""
        return within_transaction({**SILENCE, **more}) if self._by_transaction else ""

    async def tell(self, one: Any, pid: int, other: Any) -> None:
        """Set it for `one`, and all that are opened from now on, unless it shares with `other` what answers them.

        `pid` has answered `one` before. A pooler that is idle gives both the same connection to the server, one that is
        busy another at each turn: of 180 looks at busy ones 4 were deceived at the first turn. Where one of them does
        not answer in time neither may be used again: the request to stop may yet reach whatever runs there next.
        """
        try:
            await self._tell(one, pid, other)
        except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError):
            self.are_shared = True  # it was prepared on another one
        except BaseException as error:
            if not isinstance(error, asyncpg.PostgresError):
                for each in (one, other):
                    await stop_and_cut(each)
            raise

    async def _tell(self, one: Any, pid: int, other: Any) -> None:
        mine, its = await _who(one), await _who(other)
        self.are_shared = mine != {pid} or pid in its or len(its) > 1
        if self.are_shared:
            return
        await one.execute(self._words, timeout=LOOK_LIMIT)
        self.tell_all()

    def tell_all(self) -> None:
        """Set it for all that are opened from now on: they are kept apart."""
        if self._dialer is not None and self._words:
            self._dialer.words, self.holds = self._words, True


async def _who(connection: Any) -> set[int]:
    return {await connection.fetchval(_WHO, timeout=LOOK_LIMIT) for _ in range(_TURNS)}
