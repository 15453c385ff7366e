"""The sections of an App: `app.jobs`, `app.bundles`, `app.schedules`, `app.limits`, `app.queues` and the rest."""

from functools import cached_property
from typing import TYPE_CHECKING

from jobqueue.ground import Ground
from jobqueue.tasks.sending.opening import Opening

if TYPE_CHECKING:
    from jobqueue.bundles.bundles import Bundles
    from jobqueue.cron.schedules import Schedules
    from jobqueue.tasks.acting.audit import Audit
    from jobqueue.tasks.acting.bulks import Bulks
    from jobqueue.tasks.jobs import Jobs
    from jobqueue.tasks.limits import Limits
    from jobqueue.tasks.queues import Queues
    from jobqueue.webhooks.hooks import Webhooks


OF_THE_GROUND = ("jobs", "bundles", "schedules")
"""Those that an App has of the ground it stands on, and of another one once it stands there."""


class Sections:
    """Each is loaded when it is first asked for: together they are a fifth of an App, and most processes need none.

    Each may be replaced, as tests do.
    """

    _ground: Ground
    _opening: Opening

    @cached_property
    def jobs(self) -> "Jobs":
        """To look at jobs, to wait for them and to steer them."""
        return self._ground.views.jobs

    @cached_property
    def bundles(self) -> "Bundles":
        """To look at bundles, to wait for them and to steer them."""
        return self._ground.views.bundles

    @cached_property
    def schedules(self) -> "Schedules":
        """To look at schedules, to put and to steer them."""
        return self._ground.views.schedules

    @cached_property
    def limits(self) -> "Limits":
        """To look at limits, and to change them while jobs run."""
        from jobqueue.tasks.limits import Limits

        return Limits(self._opening.database, self._opening.executor_on)

    @cached_property
    def queues(self) -> "Queues":
        """To look at queues, to pause them, to say what stays of them."""
        from jobqueue.tasks.queues import Queues

        return Queues(self._opening.database, self._opening.executor_on)

    @cached_property
    def audit(self) -> "Audit":
        """Who did what."""
        from jobqueue.tasks.acting.audit import Audit

        return Audit(self._opening.database, self._opening.executor_on)

    @cached_property
    def bulks(self) -> "Bulks":
        """To look at actions on many jobs that workers carry out, and to cancel them."""
        from jobqueue.tasks.acting.bulks import Bulks

        return Bulks(self._opening.database, self._opening.executor_on)

    @cached_property
    def webhooks(self) -> "Webhooks":
        """To tell receivers outside of what becomes of jobs."""
        from jobqueue.webhooks.hooks import Webhooks

        return Webhooks(self._opening.database, lambda: self._opening.settings.webhook_networks)
