"""What is shown over HTTP: the dashboard; events of jobs for browsers; metrics, liveness and readiness of a worker.

`dashboard/` has `create_app(app, authorize=fn)`, to mount. `stream.py` has `events(app, authorize=fn)`, server-sent
events to mount. For workers `health.py` is the door: `health_app(work)`, an ASGI app to mount or to serve. `serving.py`
serves it in a thread of its own, for `worker --http`; `address.py` reads and takes the address; `metrics.py` turns
counts into Prometheus' text, `depths.py` asks the database how long the queues are.

Needs the extra: pip install "jobqueue[web]". `health.py` shows names of tasks and queues, numbers and versions; never
a payload, a connection string, or the text of an error.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobqueue.web.dashboard.access.access import Access as Access
    from jobqueue.web.dashboard.create import create_app as create_app
    from jobqueue.web.stream import events as events
else:
    _HOMES = {
        "Access": "jobqueue.web.dashboard.access.access",
        "create_app": "jobqueue.web.dashboard.create",
        "events": "jobqueue.web.stream",
    }

    def __getattr__(name):
        """Load at the first use: a worker that serves its pages needs no dashboard, no stream, and no App."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)
