"""Puts the parts of a memory together."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from jobqueue.base.job import Job
from jobqueue.ground import Ground, Site
from jobqueue.store.connection.location import Nowhere
from jobqueue.testing.memory.bundles import KeptBundles
from jobqueue.testing.memory.clock import Clock
from jobqueue.testing.memory.looking import MemoryJobs
from jobqueue.testing.memory.members import MemoryBundles
from jobqueue.testing.memory.phases import NO_DATABASE
from jobqueue.testing.memory.running import Around, Running
from jobqueue.testing.memory.schedules import MemorySchedules
from jobqueue.testing.memory.sender import MemorySender
from jobqueue.testing.memory.shelf import Shelf


class MemoryViews(NamedTuple):
    """Its `Views`, which document them."""

    jobs: MemoryJobs
    bundles: MemoryBundles
    schedules: MemorySchedules


class Memory:
    """A `Stage` without a database: jobs are kept, and run by `drain`, or inline at once."""

    def __init__(self, site: Site, resources: Mapping[type, Any], *, inline: bool) -> None:
        opening, middleware = site.opening, site.middleware
        self._opening = opening
        self._load_tasks = site.load_tasks
        self._shelf = Shelf(lambda: self.clock.now, lambda delay, at: self.clock.due(delay, at))
        schedules = MemorySchedules(opening.database, self._shelf, lambda: site.tasks.schedules)
        self.clock = schedules.clock = Clock(schedules.planned, schedules.fire)
        bundles = KeptBundles(self._shelf, lambda: self.clock.now)
        sender = MemorySender(
            opening, middleware.around_defer, self._shelf, bundles, self.clock, inline=inline
        )  # fmt: skip
        around = Around(site.tasks, middleware, opening.settings, resources, site.bundle)
        self._sender = sender
        self._running = Running(around, self._shelf, bundles, self.clock)
        sender.run = self._running.at_once
        jobs = MemoryJobs(opening, sender)
        views = MemoryViews(jobs, MemoryBundles(sender, opening.database, jobs), schedules)
        self.ground = Ground(sender, sender, views, Nowhere(opening.schema, NO_DATABASE))

    def begin(self) -> None:
        """What a worker does first."""
        self._load_tasks()

    @property
    def jobs(self) -> list[Job]:
        """All that were deferred, in their order."""
        return [kept.job(self.clock.now) for kept in self._shelf.jobs.values()]

    @property
    def unsure(self) -> Collection[UUID]:
        """Those that came with a connection, which is left alone."""
        return self._sender.came_with_connection

    async def drain(self, queue: str | None) -> list[Job]:
        """Run what is due, and what comes of that."""
        self._opening.allow()  # a worker is another process: it runs on when the web application has closed the app
        return await self._running.drain(queue)
