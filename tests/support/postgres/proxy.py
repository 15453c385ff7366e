"""A network that can fail: a TCP proxy before PostgreSQL which falls silent, loses the answers, or is cut."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict


class Proxy:
    """Stands between a client and the server of a DSN; what it does holds for open and for new connections."""

    def __init__(self, dsn: str) -> None:
        place = conninfo_to_dict(dsn)
        self._host, self._port = str(place.get("host") or "127.0.0.1"), int(place.get("port") or 5432)
        secret = f":{quote(str(place['password']), safe='')}" if place.get("password") else ""
        self._user = f"{quote(str(place.get('user') or 'postgres'), safe='')}{secret}"
        self._database = str(place["dbname"])
        self._questions, self._answers = asyncio.Event(), asyncio.Event()
        self.turned_away = 0
        self._accepts = True
        self._waited_for = b""
        self._left: int | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.let_pass()

    @property
    def dsn(self) -> str:
        """The way through the proxy."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"postgresql://{self._user}@127.0.0.1:{port}/{self._database}"

    def let_pass(self) -> None:
        """Work as a network should; what was held back arrives now."""
        self._accepts = True
        self._waited_for = b""
        self._left = None
        self._questions.set()
        self._answers.set()

    def stall(self) -> None:
        """Fall silent in both directions; nothing is refused."""
        self._questions.clear()
        self._answers.clear()

    def lose_answers(self) -> None:
        """Bring questions to the server and no answers back: hold them until `cut` loses them."""
        self._answers.clear()

    def lose_answer_to(self, question: bytes) -> None:
        """From the first question on that has these bytes, as `lose_answers`."""
        self._waited_for = question

    def stall_after(self, size: int) -> None:
        """Fall silent once so many bytes of answers have come through: what is sent then, nobody reads."""
        self._left = size

    def cut(self) -> None:
        """Break every open connection on both sides; new ones are taken."""
        for writer in self._writers:
            writer.transport.abort()
        for pump in self._pumps:
            pump.cancel()

    def break_all(self) -> None:
        """Break every connection, also each new one at once."""
        self._accepts = False
        self.cut()

    def go_away(self) -> None:
        """Break every connection and listen no more: from now on, and for good, connections are refused."""
        assert self._server is not None
        self._server.close()
        self.cut()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if not self._accepts:
            self.turned_away += 1
            writer.transport.abort()
            return
        try:
            server_reader, server_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(server_writer)
        self._start(self._pump(reader, server_writer, self._questions))
        self._start(self._pump(server_reader, writer, self._answers))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._host.startswith("/"):
            return await asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._port}")
        return await asyncio.open_connection(self._host, self._port)

    def _start(self, pump: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(pump)
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        try:
            while data := await reader.read(1 << 16):
                await gate.wait()
                if gate is self._questions and self._waited_for and self._waited_for in data:
                    self.lose_answers()
                if gate is self._answers and self._left is not None:
                    self._left -= len(data)
                    if self._left < 0:
                        self.stall()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            if gate.is_set():
                writer.close()
            else:
                writer.transport.abort()


@asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[Proxy]:
    """A proxy before the server of `dsn`, for the length of the block."""
    proxy = Proxy(dsn)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
