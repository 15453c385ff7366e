"""A LISTEN connection: hands out hints, probes itself, replaces itself.

Notifications are hints only. After every (re)LISTEN the receiver is told to look once, because whatever came before
it is lost. A pooler that is said to keep sessions apart is put to the test: if it does not, nothing would ever arrive.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from typing import Any

import anyio
from anyio.abc import TaskStatus

from jobqueue.base.log import get_logger
from jobqueue.base.service import Patience
from jobqueue.store.connection.faults import DATABASE_ERRORS, brief
from jobqueue.store.connection.pool import Database
from jobqueue.store.dialing.sockets import cut
from jobqueue.store.schema.statements import channel

log = get_logger(__name__)

_PROBE_INTERVAL = 10.0
_PROBE_LIMIT = 5.0
_LONGEST_WAIT = 2.0
_ECHO_LIMIT = 2.0
_IDLE_LIMIT = "select extract(epoch from current_setting('idle_session_timeout')::interval)::double precision"


class Listener:
    """Listens on one channel of the schema for as long as `run` runs."""

    def __init__(
        self, database: Database, purpose: str, hear: Callable[[str | None], None], flags: Iterable[asyncio.Event] = ()
    ) -> None:
        """`hear` gets each payload, and None after every (re)connect: look once, something may have been missed.

        `flags` are set while notifications arrive.
        """
        self._database = database
        self._channel = channel(database.schema, purpose)
        # Who looks at idle connections, and at their last statements, sees what this one is for.
        self._probe_query = f"select 1 -- listens to {self._channel}"
        self._hear = hear
        self._flags = tuple(flags)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. Reports as started after the first try, successful or not: polling goes on anyway."""
        patience = Patience(cap=_LONGEST_WAIT)
        started = False
        while True:
            try:
                async with self._database.connection() as connection:
                    pause = await self._pause(connection)
                    await connection.add_listener(self._channel, self._on_notify)
                    if self._database.pooler != "none" and not await self._hears(connection):
                        cut(connection)
                        break
                    patience.reset()
                    log.info("listener.ready", channel=self._channel)
                    for flag in self._flags:
                        flag.set()
                    self._hear(None)
                    if not started:
                        started = True
                        task_status.started()
                    await self._probe(connection, pause)
            except DATABASE_ERRORS as error:
                for flag in self._flags:
                    flag.clear()
                if not started:
                    started = True
                    task_status.started()
                # Whatever became of this connection, has perhaps become of all that lie idle in the pool.
                await self._database.expire()
                delay = patience.next()
                log.warning("listener.lost", error=brief(error), retry_in=round(delay, 2))
                await anyio.sleep(delay)
        log.error("listener.deaf", channel=self._channel, pooler=self._database.pooler)
        task_status.started()
        await anyio.sleep_forever()

    async def _hears(self, connection: Any) -> bool:
        """Whether this connection is told what another one says."""
        echo, heard = f"jobqueue_echo_{secrets.token_hex(8)}", asyncio.Event()

        def hear(*said: object) -> None:
            heard.set()

        await connection.add_listener(echo, hear)
        async with self._database.connection() as other:
            await other.fetch("select pg_notify($1, '')", echo)
            with anyio.move_on_after(_ECHO_LIMIT):
                await heard.wait()
        await connection.remove_listener(echo, hear)
        return heard.is_set()

    async def _pause(self, connection: Any) -> float:
        """Seconds between two probes: fewer where the server ends idle sessions sooner."""
        idle: float = await connection.fetchval(_IDLE_LIMIT)
        return min(_PROBE_INTERVAL, idle / 2) if idle else _PROBE_INTERVAL

    async def _probe(self, connection: Any, pause: float) -> None:
        """Ask now and then: a cut network is silent, and so is a middlebox that answers keepalives."""
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        while not ended.is_set():
            with anyio.move_on_after(pause):
                await ended.wait()
            if not ended.is_set():
                await connection.fetchval(self._probe_query, timeout=_PROBE_LIMIT)
        raise ConnectionError("the server ended the listening connection")

    def _on_notify(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        self._hear(str(payload))
