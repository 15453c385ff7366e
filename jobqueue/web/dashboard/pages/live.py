"""What open pages are told once a second: the words to put in place, and which parts to fetch anew.

All who may see the same are told the same bytes, made once for each look: fifty tabs cost what one costs.
"""

import hashlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from jobqueue.base.errors import JobQueueError
from jobqueue.web.dashboard.access.guard import access_of
from jobqueue.web.dashboard.live.looker import Frame
from jobqueue.web.dashboard.pages.sheet import view_of
from jobqueue.web.dashboard.reading.overview import Overview, read_overview
from jobqueue.web.dashboard.reading.recent import menu_counts
from jobqueue.web.dashboard.reading.view import View
from jobqueue.web.dashboard.showing.words import about, iso, number, span
from jobqueue.web.dashboard.site import Site
from jobqueue.web.sse import LOOK, RETRY, is_stopping, life, message, serve

_MOST = 200
_MOST_A_USER = 10
_RATES = ("deferred", "started", "finished", "failed")


@dataclass(slots=True)
class Live:
    """The streams of one dashboard."""

    site: Site
    open: Counter[str] = field(default_factory=Counter)
    _told: dict[object, tuple[int, bytes]] = field(default_factory=dict)
    """What the last look says to each kind of user, and that look's number."""

    async def stream(self, request: Request) -> Response:
        """Server-sent events: one for each look. It ends after some seconds; the browser comes back."""
        user = access_of(request).user
        if self.open.total() >= _MOST or self.open[user] >= _MOST_A_USER:
            return PlainTextResponse("too many pages watch\n", 503, {"retry-after": "5"})
        return _Streaming(self, view_of(self.site, request), user)

    async def now(self, request: Request) -> Response:
        """The same once, for a browser whose streams fail."""
        text = await self.told(view_of(self.site, request))
        return Response(text, 200, media_type="application/json")

    async def pieces(self, view: View) -> AsyncGenerator[bytes, None]:
        """The text of one stream."""
        yield f"retry: {RETRY}\n\n".encode()
        looker, ends, last, next_look = self.site.looker, life(), b"", 0.0
        while (now := time.monotonic()) < ends and not is_stopping():
            if now < next_look:
                await anyio.sleep(min(LOOK, next_look - now))
                continue
            try:
                text = await self.told(view)
            except JobQueueError:
                yield message("", "away", orjson.dumps({"seconds": round(looker.age)}))
            else:
                if text != last:
                    yield message("", "look", text)
                last = text
            next_look = time.monotonic() + looker.interval

    async def told(self, view: View) -> bytes:
        """What the last look says to this user. Raises DatabaseError."""
        frame = await self.site.looker.frame()
        key = view.access.queues, view.access.payloads
        kept = self._told.get(key)
        if kept is None or kept[0] != frame.number:
            if len(self._told) > _MOST:  # each user with queues of his own: it is made anew
                self._told.clear()
            kept = self._told[key] = (
                frame.number,
                orjson.dumps(_document(await read_overview(view), frame, menu_counts(view))),
            )
        return kept[1]


class _Streaming(Response):
    """An answer that goes on."""

    def __init__(self, live: Live, view: View, user: str) -> None:
        self._live, self._view, self._user = live, view, user
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._live.open[self._user] += 1
        try:
            await serve(self._live.pieces(self._view), receive, send)
        finally:
            self._live.open[self._user] -= 1
            self._live.open += Counter()  # forgets who watches no more


def _document(seen: Overview, frame: Frame, counts: Mapping[str, int]) -> dict[str, object]:
    return {
        "at": iso(seen.at),
        "texts": _texts(seen, counts),
        "shapes": _shapes(seen),
    }


def _texts(seen: Overview, counts: Mapping[str, int]) -> dict[str, str]:
    """What stands where, by the name in `data-live`."""
    texts = {f"rate.{name}": number(getattr(seen.rates, name) if seen.rates else None) for name in _RATES}
    texts["workers.alive"] = number(sum(each.alive for each in seen.workers))
    texts |= {f"menu.{name}": number(count) if count else "" for name, count in counts.items()}
    for each in seen.queues:
        for state in ("ready", "scheduled", "blocked", "running"):
            texts[f"queue.{each.queue}.{state}"] = about(getattr(each, state), state in each.estimated)
        texts[f"queue.{each.queue}.oldest"] = span(each.oldest_due)
    for job in seen.longest:
        texts[f"job.{job.id}.seconds"] = span(job.seconds)
    for worker in seen.workers:
        texts[f"worker.{worker.id}.busy"] = f"{worker.running} / {worker.concurrency}"
    return texts


def _shapes(seen: Overview) -> dict[str, str]:
    """Marks of the parts of the overview: another one means that it is to be fetched anew."""
    return {
        "queues": _mark([(each.queue, each.paused, each.served or not each.ready) for each in seen.queues]),
        "workers": _mark([(each.id, each.running, each.ahead, each.alive, each.leaving) for each in seen.workers]),
        "longest": _mark([(each.id, each.fraction, each.cancelling) for each in seen.longest]),
    }


def _mark(shape: object) -> str:
    return hashlib.sha256(repr(shape).encode()).hexdigest()[:12]
