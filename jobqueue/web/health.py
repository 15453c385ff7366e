"""The three pages about a running worker, as an ASGI app: `/healthz`, `/readyz`, `/metrics`.

They are answered from what is in memory, so they hold while the database is away; only the depths of the queues come
from there, within a limit.
"""

from collections.abc import Callable
from math import isinf
from typing import TypeAlias

from jobqueue.base.errors import ConfigurationError

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route
except ModuleNotFoundError as missing:
    raise ConfigurationError(f'web: {missing.name} is not installed; pip install "jobqueue[web]"') from None

from jobqueue.web.depths import Depths
from jobqueue.web.metrics import exposition
from jobqueue.worker.keeping.heartbeat import HUNG
from jobqueue.worker.work import Work

Finder: TypeAlias = Callable[[], Work | None]


def health_app(work: Work | Finder) -> Starlette:
    """An ASGI app about a worker of yours, to mount or to serve: `site.mount("/jobs", health_app(work))`.

    `work` is what `app.worker()` gives, or a function that finds it and gives None until it has started. The pages may
    be served on any event loop, in any thread. `GET /healthz` is 200 while the worker lives: its heart beats and its
    event loop is not blocked for good (ten leases). `GET /readyz` is 200 while it takes jobs: it has started, listens,
    does not drain, and the database has answered lately. Both are 503 otherwise, with one line that says why.
    `GET /metrics` is for Prometheus. Nothing on these pages comes from a payload.

    Put them where only your own machines can read them: they name tasks and queues.
    """
    find: Finder = (lambda: work) if isinstance(work, Work) else work
    depths = Depths()

    async def healthz(request: Request) -> Response:
        return _verdict(not_alive(find()))

    async def readyz(request: Request) -> Response:
        return _verdict(not_ready(find()))

    async def metrics(request: Request) -> Response:
        there = find()
        queues = None if there is None else await depths.get(there)  # first: it may take its time
        snapshot, tasks = (None, {}) if there is None else (there.snapshot(), there.supervisor.tally.tasks())
        body, kind = exposition(snapshot, tasks, queues, depths.flows, request.headers.get("accept", ""))
        return Response(body, media_type=None, headers={"content-type": kind})

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


def not_alive(work: Work | None) -> str | None:
    """Why the process should be replaced; None if it should not. One that is only starting should not."""
    if work is None:
        return None
    if work.has_ended:
        return "the worker has ended"
    now, settings = work.snapshot(), work.supervisor.settings
    if now.blocked > HUNG * settings.lease:
        return f"a job has blocked the event loop for {now.blocked:.0f} s"
    if now.heart_silent > settings.lease:
        return f"the heart has not beaten for {now.heart_silent:.0f} s"
    return None


def not_ready(work: Work | None) -> str | None:
    """Why the worker takes no jobs; None if it does."""
    if work is None:
        return "starting"
    if (why := not_alive(work)) is not None:
        return why
    now, settings = work.snapshot(), work.supervisor.settings
    if now.draining:
        return "draining"
    if now.unanswered > 2 * settings.beat + 1:
        since = "yet" if isinf(now.unanswered) else f"for {now.unanswered:.0f} s"
        return f"the database has not answered {since}"
    if not now.listening and settings.listens:
        return "not listening"
    return None


def _verdict(why_not: str | None) -> Response:
    return PlainTextResponse("ok\n") if why_not is None else PlainTextResponse(f"{why_not}\n", status_code=503)
