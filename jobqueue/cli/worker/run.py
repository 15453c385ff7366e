"""`worker`: runs jobs until a signal stops it, or in a burst until nothing is left."""

import asyncio
import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import replace

from anyio.abc import TaskStatus

from jobqueue.app import App
from jobqueue.base.errors import ConfigurationError
from jobqueue.base.log import let_it_be_watched
from jobqueue.base.settings import Settings
from jobqueue.cli.loading import load_app, load_tasks
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, Refusal, leave, no_exit, report, tell, tell_now
from jobqueue.cli.terminal.first_moments import LOADING, STOPPED_EARLY
from jobqueue.cli.terminal.log_choices import LogFormat, LogLevel, configured_by_user
from jobqueue.cli.terminal.logs import configure
from jobqueue.cli.terminal.lossy import let_stderr_be_lossy
from jobqueue.cli.terminal.safe_text import shown_dsn
from jobqueue.cli.worker.banner import announce
from jobqueue.cli.worker.child import Leash
from jobqueue.cli.worker.http import address_of, serving
from jobqueue.cli.worker.stopping import Stopping
from jobqueue.cli.worker.wishes import Wishes
from jobqueue.web.address import Address
from jobqueue.worker.claiming.queues import Queues
from jobqueue.worker.work import Work, tuned


def run_worker(target: str, wishes: Wishes, *, child: int | None = None, silent: bool = False) -> ExitCode:
    """Load the App, run its jobs, and say in the exit code how that ended.

    `child`: the descriptor that leads to a supervising parent. `silent`: another process shows the banner.
    """
    stopping = Stopping(under_parent=child is not None)
    stopping.install()
    let_stderr_be_lossy()
    leash = None if child is None else Leash(child, stopping)
    try:
        queues = _checked_queues(wishes)
        http = None if wishes.http is None else address_of(wishes.http)
        app = load_app(target)
        load_tasks(app, target)
        _let_the_collector_rest()
        if stopping.asked_early:
            return _stopped_early(stopping)
        wishes = _set_up_logging(wishes, silent)
        with no_exit("in the worker"), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(app, wishes, queues, stopping, leash, silent, http))
    except KeyboardInterrupt:
        return _stopped_early(stopping)


async def _serve(
    app: App,
    wishes: Wishes,
    queues: Queues,
    stopping: Stopping,
    leash: Leash | None,
    silent: bool,
    http: Address | None,
) -> ExitCode:
    settings = tuned(app.settings, wishes.concurrency, wishes.drain_timeout)
    started = _Started(stopping, leash, settings)
    running = asyncio.create_task(_run(app, wishes, settings, queues, started, silent, http))
    stopping.begin(asyncio.get_running_loop(), settings.drain_timeout, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        if not stopping.asked:
            raise
    except Exception as error:
        if started.work is not None and not started.work.clean:
            leave(report(error))
        raise
    if started.work is None:
        return _stopped_early(stopping)
    code = stopping.verdict = _verdict(started.work, stopping)
    if code is ExitCode.LEFT_HARD:
        leave(code)  # whatever outlived the stop would keep the loop and the interpreter from ending
    await app.close()
    return code


async def _run(
    app: App,
    wishes: Wishes,
    settings: Settings,
    queues: Queues,
    started: "_Started",
    silent: bool,
    http: Address | None,
) -> None:
    place = Place(app, None, app.schema, app.settings)
    with serving(http, lambda: started.work):  # before the worker: a port that is taken is said before anything is done
        async with place.resolved_dsn() as dsn:  # held meanwhile, or an embedded server would stop between the two
            async with place.reached(dsn) as database:
                migration = await database.check_patiently()
            if not silent:
                announce(
                    app, settings, queues, database=shown_dsn(dsn), migration=migration, processes=wishes.processes,
                    as_record=wishes.log_format is LogFormat.JSON,
                )  # fmt: skip
            await app.run_worker(
                wishes.entries, wishes.concurrency, wishes.drain_timeout, wishes.burst, task_status=started
            )


class _Started(TaskStatus[Work]):
    """Learns of the running worker, and passes it on."""

    def __init__(self, stopping: Stopping, leash: Leash | None, settings: Settings) -> None:
        self.work: Work | None = None
        self._stopping = stopping
        self._leash = leash
        self._settings = settings

    def started(self, value: Work | None = None) -> None:
        if value is not None:
            self.work = value
            self._stopping.started(value)
            value.when_hung(_leave_hung)
            if self._leash is not None:
                self._leash.ready(self._settings)


def _leave_hung() -> None:
    """In another thread: nothing else can end a process whose event loop hangs, and it is of no use any more."""
    tell_now("a job has blocked the event loop for too long: ended by force; what ran is taken over", own_line=False)
    leave(ExitCode.LEFT_HARD)


def _verdict(work: Work, stopping: Stopping) -> ExitCode:
    if not work.clean:
        if not stopping.under_parent:
            tell("jobs outlived the stop, or could not be saved; they are taken over when their lease has ended")
        return ExitCode.LEFT_HARD
    if work.cut_off:
        jobs = "1 job was" if work.cut_off == 1 else f"{work.cut_off} jobs were"
        if not stopping.under_parent:
            tell(f"{jobs} cancelled; what had not finished was given back")
        return ExitCode.CUT_OFF
    return ExitCode.OK


def _let_the_collector_rest() -> None:
    """What is loaded by now stays, so the garbage collector need not look at it; and what a job leaves is freed without
    it. It took a tenth of the CPU of quick jobs. Thresholds of the user's own stand."""
    gc.freeze()
    if gc.get_threshold()[0] == LOADING:
        gc.set_threshold(10_000, 20, 50)


def _stopped_early(stopping: Stopping) -> ExitCode:
    if not stopping.under_parent:
        tell(STOPPED_EARLY)
    return ExitCode.OK


def _checked_queues(wishes: Wishes) -> Queues:
    try:
        return Queues(wishes.entries)
    except ConfigurationError as error:
        raise Refusal(f"--{error}", ExitCode.USAGE) from None


def _set_up_logging(wishes: Wishes, silent: bool) -> Wishes:
    """Gives the wishes without those that have no effect."""
    if not configured_by_user():
        configure(wishes.log_format or LogFormat.CONSOLE, wishes.log_level or LogLevel.INFO)
        if sys.stderr.isatty():
            let_it_be_watched()
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # of --http; that it runs we say ourselves
        return wishes
    if (wishes.log_format or wishes.log_level) and not silent:
        tell("--log-format and --log-level have no effect: your own code sets up logging")
    return replace(wishes, log_format=None, log_level=None)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # not on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
