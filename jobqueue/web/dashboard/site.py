"""What all pages stand on: the App, how it is shown, and the last look at it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from jobqueue.app import App
from jobqueue.store.connection.edge import own_session
from jobqueue.store.connection.session import Session
from jobqueue.web.dashboard.live.looker import Looker
from jobqueue.web.dashboard.showing.redacting import Redact


@dataclass(frozen=True, slots=True)
class Site:
    """One dashboard."""

    app: App
    title: str
    read_only: bool
    redact: Redact | None
    looker: Looker

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A connection to look with, within the limits of looks. Raises DatabaseError."""
        async with own_session(self.app.looks) as session:
            yield session
