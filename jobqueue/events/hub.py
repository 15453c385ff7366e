"""An app's events: one feed for each event loop, and what stands on it."""

import contextlib
import weakref
from collections.abc import Sequence
from uuid import UUID

from jobqueue.base.flows.event import Choice, Place, check_types
from jobqueue.base.names import check_name
from jobqueue.events.feed import Feed
from jobqueue.events.listening import Listeners
from jobqueue.events.stream import EventStream
from jobqueue.store.connection.edge import EDGE
from jobqueue.tasks.options import check_id
from jobqueue.tasks.sending.opening import Opening
from jobqueue.tasks.sending.producer import Producer


class Hub:
    """Where streams and listeners of one app come from."""

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._feeds: weakref.WeakKeyDictionary[Producer, Feed] = weakref.WeakKeyDictionary()
        self.listeners = Listeners(self.stream)

    def stream(self, choice: Choice, after: Place | None) -> EventStream:
        """The events of this choice that come behind a place; None: from now on."""
        return EventStream(self._feed, choice, after)

    def listening(self) -> "contextlib.AbstractAsyncContextManager[None]":
        """Tell the app's listeners while the block runs."""
        return self.listeners.listening()

    async def _feed(self) -> Feed:
        with EDGE:
            producer = await self._opening.producer()
        feed = self._feeds.get(producer)
        if feed is None:
            feed = self._feeds[producer] = Feed(producer.database, listens=producer.listens)
            producer.companions.append(feed)
        return feed


def choice_of(
    types: Sequence[str] | str = (),
    *,
    task: str | None = None,
    queue: str | None = None,
    origin: str | None = None,
    job: UUID | str | None = None,
    bundle: UUID | str | None = None,
    called: str = "types",
) -> Choice:
    """A choice of events, checked. Raises InvalidOption, which names what is wrong; types as they are `called`."""
    for option, name in {"task": task, "queue": queue, "origin": origin}.items():
        if name is not None:
            check_name(option, name)
    ids = [None if id is None else check_id(id, option) for option, id in (("job", job), ("bundle", bundle))]
    return Choice(check_types(types, called), task, queue, origin, *ids)
