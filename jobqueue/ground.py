"""What an app stands on: its database, or what a test puts in its place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, Self

from jobqueue.bundles.storing import Stores, Storing
from jobqueue.store.connection.location import Location
from jobqueue.tasks.membership import MemberOf
from jobqueue.tasks.registry import Registry
from jobqueue.tasks.run.middleware import DeferMiddleware, Middleware
from jobqueue.tasks.sending.database_sender import DatabaseSender
from jobqueue.tasks.sending.opening import Opening
from jobqueue.tasks.sending.sender import Sender

if TYPE_CHECKING:
    from jobqueue.bundles.bundles import Bundles
    from jobqueue.cron.schedules import Schedules
    from jobqueue.tasks.jobs import Jobs


class Views(Protocol):
    """Where what was stored is looked at, and steered."""

    @property
    def jobs(self) -> "Jobs":
        """Jobs."""
        ...

    @property
    def bundles(self) -> "Bundles":
        """Bundles."""
        ...

    @property
    def schedules(self) -> "Schedules":
        """Schedules."""
        ...


class DatabaseViews:
    """Those of a database, each loaded when it is first asked for: a process that only defers needs none."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening

    @cached_property
    def jobs(self) -> "Jobs":
        """Jobs."""
        from jobqueue.tasks.jobs import Jobs

        opening = self._opening
        return Jobs(opening.database, opening.executor_on, lambda: opening.settings.max_payload)

    @cached_property
    def bundles(self) -> "Bundles":
        """Bundles."""
        from jobqueue.bundles.bundles import Bundles

        return Bundles(self._opening.database, self._opening.executor_on, self.jobs)

    @cached_property
    def schedules(self) -> "Schedules":
        """Schedules."""
        from jobqueue.cron.schedules import Schedules

        return Schedules(self._opening.database, self._opening.executor_on)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where jobs, bundles and schedules of an app go."""

    sender: Sender
    storing: Stores
    views: Views
    location: Location | None = None
    """Where its database is meanwhile; None: where it was."""

    @classmethod
    def of(cls, opening: Opening, around_defer: Sequence[DeferMiddleware]) -> Self:
        """The database that is opened there."""
        return cls(DatabaseSender(opening, around_defer), Storing(opening, around_defer), DatabaseViews(opening))


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
