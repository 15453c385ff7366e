"""What an app stands on: its database, or what a test puts in its place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from jobqueue.bundles.bundles import Bundles
from jobqueue.bundles.storing import Stores, Storing
from jobqueue.cron.schedules import Schedules
from jobqueue.store.connection.location import Location
from jobqueue.tasks.jobs import Jobs
from jobqueue.tasks.membership import MemberOf
from jobqueue.tasks.registry import Registry
from jobqueue.tasks.run.middleware import DeferMiddleware, Middleware
from jobqueue.tasks.sending.database_sender import DatabaseSender
from jobqueue.tasks.sending.opening import Opening
from jobqueue.tasks.sending.sender import Sender


@dataclass(frozen=True, slots=True)
class Ground:
    """Where jobs, bundles and schedules of an app go."""

    sender: Sender
    storing: Stores
    bundles: Bundles
    jobs: Jobs
    schedules: Schedules
    location: Location | None = None
    """Where its database is meanwhile; None: where it was."""

    @classmethod
    def of(cls, opening: Opening, around_defer: Sequence[DeferMiddleware]) -> Self:
        """The database that is opened there."""
        database, on = opening.database, opening.executor_on
        jobs = Jobs(database, on, lambda: opening.settings.max_payload)
        return cls(
            DatabaseSender(opening, around_defer), Storing(opening, around_defer), Bundles(database, on, jobs), jobs,
            Schedules(database, on),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    """What a ground needs to know of the app that is to stand on it."""

    opening: Opening
    tasks: Registry
    middleware: Middleware
    load_tasks: Callable[[], object]
    before: Ground
    """What it stands on now."""
    stand_on: Callable[[Ground], None]
    """Has it stand on another one."""
    bundle: MemberOf
