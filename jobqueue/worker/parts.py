"""All parts of one worker, made and connected; nothing runs yet. `supervisor.py` starts and stops them."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from uuid_utils.compat import uuid7

from jobqueue.base.job import WorkerId
from jobqueue.base.settings import Settings
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.connection.pool import Database
from jobqueue.store.leases import mark_started
from jobqueue.store.workers import Registration
from jobqueue.tasks.membership import MemberOf
from jobqueue.tasks.run.middleware import Middleware
from jobqueue.worker.bulks import BulkRunner
from jobqueue.worker.claiming.admitting import Admitter
from jobqueue.worker.claiming.claimer import Claimer
from jobqueue.worker.claiming.lone import LoneFinder
from jobqueue.worker.claiming.queues import Queues
from jobqueue.worker.claiming.staging import Stager
from jobqueue.worker.draining import Drain
from jobqueue.worker.ending.completing import Completions
from jobqueue.worker.ending.finishing import Finisher
from jobqueue.worker.ending.folding import Folder
from jobqueue.worker.ending.journal import HoldJournal
from jobqueue.worker.ending.last_words import LastWords
from jobqueue.worker.ending.lines import Lines
from jobqueue.worker.ending.progress import Reporter
from jobqueue.worker.ending.recording import Recorder
from jobqueue.worker.ending.telling import LogTeller
from jobqueue.worker.keeping.heartbeat import Heart
from jobqueue.worker.keeping.holds import Held, Hold
from jobqueue.worker.keeping.machine import born, this_machine
from jobqueue.worker.keeping.rescue import Rescuer
from jobqueue.worker.keeping.tally import Tally
from jobqueue.worker.keeping.unserved import Unserved
from jobqueue.worker.keeping.watchdog import Watchdog
from jobqueue.worker.noting.counting import CountSender
from jobqueue.worker.noting.looking import DepthLooker
from jobqueue.worker.slots.runs import Surroundings, Tasks
from jobqueue.worker.slots.slots import Slots
from jobqueue.worker.slots.starving import StarvingFinder
from jobqueue.worker.slots.stuck import StuckFinder
from jobqueue.worker.upkeep import Upkeep


class Parts:
    """From the bottom up: claims are kept, jobs run, go out, come in."""

    def __init__(
        self,
        database: Database,
        tasks: Tasks,
        settings: Settings,
        queues: Queues,
        resources: Mapping[type, Any],
        middleware: Middleware,
        names: tuple[str, str],
        fatal: Callable[[BaseException], None],
        bundle: MemberOf,
    ) -> None:
        """`names` are the app's and its version; `fatal` ends the worker, whatever it does.

        `bundle` gives a claimed job what it has of its bundle.
        """
        self.id = worker = WorkerId(uuid7())
        self.registration = Registration(
            *names, queues.described, settings.concurrency, settings.lease - settings.beat, this_machine(),
            born(os.getpid()),
        )  # fmt: skip
        self._database = database
        self.tally = Tally(tasks.find)
        holds = Held(self.tally)
        self.reporter = Reporter(database, worker, holds)
        self.recorder = Recorder(database, worker, holds, self.reporter.have_begun)
        words = LastWords(self.reporter, self.recorder)
        lines = Lines(settings)
        self.folder = Folder(database)
        self.completions = Completions(
            database, worker, holds, words, lines, settings.concurrency, self.folder, self._freed
        )
        self.teller = LogTeller(database)
        self.finisher = Finisher(database, worker, holds, words, lines, self.teller.written, self.folder, self._freed)
        self.slots = Slots(Surroundings(
            tasks, settings, worker, holds, self.finisher.submit, fatal, resources, middleware,
            self._mark, self.reporter.say, self.reporter.begins, self.completions.transaction, bundle,
            partial(HoldJournal, self.recorder),
        ))  # fmt: skip
        self.claimer = Claimer(
            database, worker, settings, queues, tasks, self.slots, holds, self.finisher,
            lambda: self.heart.is_heard, self._settle,
        )  # fmt: skip
        self.admitter = Admitter(database, settings, self.claimer.look_everywhere)
        self.stager = Stager(database, worker, settings, self._promoted)
        self.watchdog = Watchdog(holds)
        self.heart = Heart(
            database, worker, settings, holds, self.watchdog, self.slots.lose, self.slots.cancel, self.registration
        )
        self.heart.when_answered = self.slots.freed.set
        self.rescuer = Rescuer(database, worker, settings, holds, lambda: self.claimer.answered)
        self.drain = Drain(database, worker, self.slots, self.finisher)
        self._add_the_seldom(queues, settings)

    def _add_the_seldom(self, queues: Queues, settings: Settings) -> None:
        """What looks now and then for what goes wrong, or grows old."""
        self.lone = LoneFinder(self._database, queues, settings.rescue_interval, self.claimer.make_way)
        self.stuck = StuckFinder(self.slots, self.watchdog.board)
        self.starving = StarvingFinder(self._database, self.id, self.slots, self.watchdog.board)
        self.unserved = Unserved(self._database)
        self.upkeep = Upkeep(self._database, settings)
        self.counting = CountSender(self._database, self.id, self.tally)
        self.looking = DepthLooker(self._database)
        self.bulks = BulkRunner(self._database, settings)

    def _freed(self) -> None:
        self.admitter.wakeup.ring()

    def _promoted(self) -> None:
        self.claimer.look_everywhere()
        self.admitter.promoted()

    async def _settle(self) -> None:
        await self.folder.settle()
        await self.admitter.settle()

    async def _mark(self, hold: Hold) -> bool:
        try:
            return await mark_started(self._database, self.id, hold.id, hold.fence)
        except DATABASE_ERRORS:
            return False
