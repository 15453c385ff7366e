"""`top`: what happens now, looked at again and again. While the database is away the last frame stays."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import anyio

from jobqueue.cli.bundles.counts import counts_document
from jobqueue.cli.place import Place
from jobqueue.cli.queues.look import queue_document
from jobqueue.cli.queues.stuck import stuck_document
from jobqueue.cli.schedules.words import FIRINGS
from jobqueue.cli.terminal.failures import ExitCode
from jobqueue.cli.terminal.output import write_json
from jobqueue.cli.terminal.safe_text import shown_dsn
from jobqueue.cli.top.frame import Frame, Rates, draw, write_plain
from jobqueue.store.connection.faults import DATABASE_ERRORS, brief
from jobqueue.store.connection.pool import Database
from jobqueue.store.flows.schedules import next_firings
from jobqueue.store.looking.overview import (
    Flow,
    count_bundles,
    longest_running,
    queue_stats,
    read_flow,
    stuck_now,
    workers_now,
)
from jobqueue.tasks.limits import busiest_limits

_PATIENCE = 8.0
_JOBS = 100
_LIMITS = 10
_BETWEEN = 1.0
"""Seconds between the two looks that one frame needs for its rates."""
RECENT = 10.0
"""Seconds that rates are about, once it has looked for so long."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How to look. `interval` in seconds; None: every 2, in a terminal."""

    interval: float | None
    once: bool
    as_json: bool

    @property
    def seconds(self) -> float:
        """Between two looks."""
        return 2.0 if self.interval is None else self.interval

    @property
    def stays(self) -> bool:
        """Goes on until it is ended: in a terminal, and as JSON wherever an interval was given."""
        return not self.once and (sys.stdout.isatty() or (self.as_json and self.interval is not None))


class Looks:
    """One look after the other at a database, and what has become of it since."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._flows: deque[tuple[float, Flow]] = deque()
        """What rates may be compared with, by our own clock: one that is old enough, and those after it."""
        self.frame: Frame | None = None
        self.trouble: str | None = None
        self._seen = 0.0

    @property
    def away(self) -> float | None:
        """Seconds since the last good look, if the one that followed failed."""
        return None if self.trouble is None else asyncio.get_running_loop().time() - self._seen

    async def look(self) -> None:
        """Look once. Raises what `DATABASE_ERRORS` lists."""
        with anyio.fail_after(_PATIENCE):
            first = self._first()
            began = asyncio.get_running_loop().time()
            flow = await read_flow(self._database, first)
            queues = await queue_stats(self._database)
            workers = await workers_now(self._database)
            jobs = await longest_running(self._database, _JOBS)
            bundles = await count_bundles(self._database)
            firings = await next_firings(self._database, FIRINGS)
            limits = await busiest_limits(self._database, _LIMITS)
            stuck = await stuck_now(self._database)
        before = self._flows[-1][1] if self._flows else flow
        if min(flow.finished - before.finished, flow.deferred - before.deferred) < 0:
            self._flows.clear()  # the server's statistics were reset
            first = None
        self._flows.append((began, flow))
        rates = None if first is None else Rates.between(first, flow)
        self.frame = Frame(self._name, flow.now, rates, queues, workers, jobs, bundles, firings, limits, stuck)
        self.trouble, self._seen = None, asyncio.get_running_loop().time()

    async def look_again(self) -> None:
        """Look; remember the trouble if that fails."""
        try:
            await self.look()
        except DATABASE_ERRORS as error:
            self.trouble = brief(error)
            self._flows.clear()  # what comes after a pause, and perhaps a restart, is compared with nothing before it

    def _first(self) -> Flow | None:
        """With what the next look is compared: the latest that is old enough, or the oldest."""
        now = asyncio.get_running_loop().time()
        while len(self._flows) > 1 and now - self._flows[1][0] >= RECENT:
            self._flows.popleft()
        return self._flows[0][1] if self._flows else None


def show_top(place: Place, wish: Wish) -> ExitCode:
    """Show it until q or Ctrl-C, or once."""
    asyncio.run(_show(place, wish))
    return ExitCode.OK


async def _show(place: Place, wish: Wish) -> None:
    async with place.resolved_dsn() as dsn, place.reached(dsn) as database:
        await database.check()
        looks = Looks(database, shown_dsn(dsn))
        await looks.look()
        if wish.stays:
            ended = asyncio.Event()
            with _ending(ended.set):
                await (_write_lines if wish.as_json else _watch)(looks, wish, ended)
            if looks.trouble:
                database.cut_off()
            return
        await anyio.sleep(_BETWEEN)
        await looks.look()
    if looks.frame is not None:
        if wish.as_json:
            write_json(document(looks.frame))
        else:
            write_plain(looks.frame)


async def _write_lines(looks: Looks, wish: Wish, ended: asyncio.Event) -> None:
    """One JSON document a line for each look."""
    while True:
        with anyio.move_on_after(wish.seconds):
            await ended.wait()
            return
        await looks.look_again()
        away = {"away": looks.away, "error": looks.trouble}
        try:
            write_json(away if looks.trouble or looks.frame is None else document(looks.frame), line=True)
        except BrokenPipeError:  # whoever read this has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return


async def _watch(looks: Looks, wish: Wish, ended: asyncio.Event) -> None:
    """Frames in the whole terminal, which is as it was before afterwards."""
    from rich.console import Console  # slow to import, and no other verb wants it
    from rich.live import Live

    console = Console(highlight=False)

    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:

        def redraw() -> None:
            if looks.frame is not None:
                live.update(draw(looks.frame, console.width, console.height, looks.away, looks.trouble), refresh=True)

        async def tick() -> None:  # the clock of an outage goes on while a look waits for an answer
            while True:
                await anyio.sleep(1.0)
                if looks.trouble:
                    redraw()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, redraw)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tick)
                tasks.start_soon(_look_on, looks, wish.seconds, redraw)
                await ended.wait()
                tasks.cancel_scope.cancel()
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)


async def _look_on(looks: Looks, pause: float, redraw: Callable[[], None]) -> None:
    redraw()
    while True:
        await anyio.sleep(pause)
        await looks.look_again()
        redraw()


@contextlib.contextmanager
def _ending(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` on Ctrl-C, SIGTERM and q. Keys are not echoed meanwhile, and Ctrl-Z does nothing."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        with _keys(loop, end) if sys.stdin.isatty() and sys.stdout.isatty() else contextlib.nullcontext():
            yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _keys(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> Iterator[None]:
    import termios
    import tty

    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def pressed() -> None:
        typed = os.read(keyboard, 100)
        if not typed or b"q" in typed.lower():  # nothing: the terminal is gone
            end()

    tty.setcbreak(keyboard)
    now = termios.tcgetattr(keyboard)
    now[6][termios.VSUSP] = os.fpathconf(keyboard, "PC_VDISABLE").to_bytes(1, "little")
    termios.tcsetattr(keyboard, termios.TCSADRAIN, now)
    loop.add_reader(keyboard, pressed)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def document(frame: Frame) -> dict[str, object]:
    """A frame as JSON values."""
    return {
        "at": frame.at,
        "database": frame.database,
        "per_second": None if frame.rates is None else asdict(frame.rates),
        "queues": [queue_document(queue) for queue in frame.queues],
        "workers": [asdict(worker) for worker in frame.workers],
        "running": [asdict(job) for job in frame.jobs],
        "bundles": counts_document(frame.bundles),
        "firings": [asdict(firing) for firing in frame.firings],
        "limits": [asdict(limit) for limit in frame.limits],
        "stuck": [stuck_document(one) for one in frame.stuck],
    }
