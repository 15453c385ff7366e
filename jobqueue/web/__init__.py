"""What is shown over HTTP: events of jobs for browsers; metrics, liveness and readiness of a worker.

`stream.py` has `events(app, authorize=fn)`, server-sent events to mount. For workers `health.py` is the door:
`health_app(work)`, an ASGI app to mount or to serve. `serving.py` serves it in a thread of its own, for
`worker --http`; `address.py` reads and takes the address; `metrics.py` turns counts into Prometheus' text, `depths.py`
asks the database how long the queues are.

Needs the extra: pip install "jobqueue[web]". Shows names of tasks and queues, numbers and versions; never a payload,
a connection string, or the text of an error.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobqueue.web.stream import events as events
else:

    def __getattr__(name):
        """Load at the first use: a worker that serves its pages needs no stream, and no App."""
        if name != "events":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module("jobqueue.web.stream").events
