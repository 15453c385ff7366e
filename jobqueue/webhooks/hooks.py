"""`app.webhooks`: receivers that are told of events."""

import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from uuid_utils.compat import uuid7

from jobqueue.base.acting.audit import By, Doer
from jobqueue.base.errors import ConfigurationError, InvalidOption, WebhookNotFound
from jobqueue.base.flows.event import DELIVERY, Choice, Event, EventType
from jobqueue.base.flows.webhook import QUEUE, Delivery, DeliveryPage, Webhook, origin_of
from jobqueue.base.job import Job, JobState
from jobqueue.base.moments import check_time
from jobqueue.base.settings import Networks
from jobqueue.base.steering import Action, Changes
from jobqueue.events.hub import choice_of
from jobqueue.store.acting.audit import Noted, beginning, noting
from jobqueue.store.connection.edge import own_session
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import webhooks
from jobqueue.store.intake import insert_all
from jobqueue.store.looking.listing import PATIENCE
from jobqueue.store.standby import await_standby
from jobqueue.tasks.acting.filters import states_of
from jobqueue.tasks.jobs import Jobs
from jobqueue.tasks.options import check_id
from jobqueue.webhooks.relay import body_of, delivery
from jobqueue.webhooks.signing import secret_in, secret_of, written

_URL_LENGTH = 2_000
_PAGE = 500
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Webhooks:
    """Makes webhooks, changes them, and looks at what became of their deliveries.

    `by` is who does it, for the audit, which is written in the transactions that make the changes.
    """

    def __init__(self, database: Callable[[], Awaitable[Database]], networks: Callable[[], Networks]) -> None:
        self._database = database
        self._networks = networks
        self._jobs = Jobs(database)

    async def create(
        self,
        url: str,
        events: Sequence[EventType] | EventType | frozenset[EventType] | set[EventType] = (),
        *,
        queue: str | None = None,
        task: str | None = None,
        origin: str | None = None,
        bundle: UUID | str | None = None,
        job: UUID | str | None = None,
        secret_env: str | None = None,
        by: Doer | None = None,
    ) -> Webhook:
        """Post each event of these types to a URL, from now on; without types all, but those of webhooks themselves.

        Chosen further by queue, task, origin, bundle or job. Each event is a job of the queue `webhooks`, which some
        worker must serve: it is posted at least once, signed as Standard Webhooks says, tried ten times over three
        days. A receiver that hangs has a slot for 15 s: `--queues webhooks:10,*` limits what they take. Only https,
        and public addresses, unless `webhook_networks` allows more. `secret_env` names an environment variable of the
        workers that has the secret; without it the secret is made of `JOBQUEUE_WEBHOOK_KEY`, see `secret`.
        Raises InvalidOption, ConfigurationError.
        """
        choice = webhook_choice(events, queue=queue, task=task, origin=origin, bundle=bundle, job=job)
        check_url(url, self._networks())
        check_variable(secret_env)
        id, doer = uuid7(), By.of(by)
        if secret_env is None:
            secret_of(id, 1)
        chosen = {"events": sorted(choice.types), "queue": queue, "task": task, "origin": origin}
        async with self._session() as session, noting(session, doer, "webhook.create", webhook=str(id), **chosen):
            await webhooks.create(session, id, url, choice, secret_env)
            return (await webhooks.read(session, id))[0]

    async def get(self, id: UUID | str) -> Webhook:
        """One, as it stands now. Raises WebhookNotFound."""
        meant = check_id(id)
        async with self._session() as session:
            found = await webhooks.read(session, meant)
        if not found:
            raise WebhookNotFound(meant)
        return found[0]

    async def list(self) -> Sequence[Webhook]:
        """All, the oldest first."""
        async with self._session() as session:
            return await webhooks.read(session)

    async def secret(self, id: UUID | str) -> str:
        """Its secret, for the receiver: `whsec_...`. Raises WebhookNotFound, ConfigurationError."""
        hook = await self.get(id)
        return written(secret_of(hook.id, hook.version) if hook.secret_env is None else secret_in(hook.secret_env))

    async def rotate(self, id: UUID | str, *, by: Doer | None = None) -> str:
        """Give it a new secret, which is returned; for a day every post is signed with the old one too.

        Raises WebhookNotFound, and ConfigurationError for one whose secret is in a variable.
        """
        doer = By.of(by)
        hook = await self.get(id)
        if hook.secret_env is not None:
            raise ConfigurationError(f"rotate: the secret of this webhook is in {hook.secret_env}; change it there")
        secret_of(hook.id, hook.version)  # before anything is changed: the key is there
        await self._change(webhooks.rotate, hook.id, "rotate", doer)
        return await self.secret(hook.id)

    async def pause(self, id: UUID | str, *, by: Doer | None = None) -> None:
        """Post nothing until it is resumed: events wait in the log, for as long as that keeps them.

        Raises WebhookNotFound.
        """
        await self._change(webhooks.pause, check_id(id), "pause", by)

    async def resume(self, id: UUID | str, *, by: Doer | None = None) -> None:
        """Go on where it was paused or disabled; deliveries that wait are tried now. Raises WebhookNotFound."""
        meant = check_id(id)
        note = await self._change(webhooks.resume, meant, "resume", by)
        await self._jobs.steer(Action.RESCHEDULE, (), _of(meant), {"delay": 0.0}, by=note)

    async def delete(self, id: UUID | str, *, by: Doer | None = None) -> None:
        """Remove it; deliveries that wait are cancelled. Raises WebhookNotFound."""
        meant = check_id(id)
        note = await self._change(webhooks.delete, meant, "delete", by)
        await self._jobs.steer(Action.CANCEL, (), _of(meant), by=note)

    async def deliveries(
        self,
        id: UUID | str,
        *,
        state: JobState | str | Sequence[JobState | str] | None = None,
        after: UUID | None = None,
        limit: int = 50,
        patience: float = PATIENCE,
    ) -> DeliveryPage:
        """A page of its deliveries, the newest first; `after=page.next` goes on until that is None.

        It is looked for as `jobs.list` does: a page may come after `patience` seconds with few or none, and say where
        to go on. Raises WebhookNotFound, InvalidOption.
        """
        hook = await self.get(id)
        page = await self._jobs.list(
            state=state, **_of(hook.id), after=after, limit=limit, payload=True, patience=patience
        )
        found = DeliveryPage(Delivery.of(job, _event_of(job)) for job in page)
        found.next = page.next
        return found

    async def redeliver(
        self,
        id: UUID | str,
        *,
        since: datetime | None = None,
        state: JobState | str | Sequence[JobState | str] = JobState.DEAD,
        by: Doer | None = None,
    ) -> Changes:
        """Try deliveries again that have ended, by default those that are dead; only those that ended `since` then.

        `state="completed"` sends again what a receiver has lost: under the same `webhook-id`. Says of each what became
        of it. Raises WebhookNotFound, InvalidOption.
        """
        moment = None if since is None else check_time("since", since)
        doer = By.of(by)
        hook = await self.get(id)
        what = {"webhook": str(hook.id), "state": [str(each) for each in states_of(state)], "since": moment}
        said = {name: value for name, value in what.items() if value is not None}
        note = None if doer is None else Noted(doer, "webhook.redeliver", said)
        if moment is None:
            return await self._jobs.steer(Action.RETRY, (), {"state": state, **_of(hook.id)}, by=note)
        changes, after = Changes(), None
        while True:
            page = await self._jobs.list(state=state, **_of(hook.id), after=after, limit=_PAGE)
            ids = [job.id for job in page if job.finished_at is not None and job.finished_at >= moment]
            if ids:
                some = await self._jobs.steer(Action.RETRY, ids, {}, by=note)
                changes.each.update(some.each)
                changes.locked.update(some.locked)
            after = page.next
            if after is None:
                return changes

    async def test(self, id: UUID | str, *, by: Doer | None = None) -> UUID:
        """Post an event of the type `webhook.test`; gives the id of its delivery. Raises WebhookNotFound."""
        doer = By.of(by)
        hook, id_of_job = await self.get(id), uuid7()
        event = Event("0.0", "webhook.test", datetime.now(UTC), id_of_job, "test", QUEUE, None, 1, None, None, None)
        async with (
            self._session() as session,
            noting(session, doer, "webhook.test", webhook=str(hook.id), ids=[str(id_of_job)]) as row,
        ):
            row.jobs = [id_of_job]
            await insert_all(session, [delivery(hook.id, id_of_job, body_of("webhook.test", event))], always=False)
        return id_of_job

    async def _change(
        self, change: Callable[[Session, UUID], Awaitable[bool]], id: UUID, verb: str, by: Doer | None
    ) -> Noted | None:
        """Change it; the row of the audit, to which what is done to its deliveries may be added."""
        doer = By.of(by)
        note = None if doer is None else Noted(doer, f"webhook.{verb}", {"webhook": str(id)})
        alone = int(change not in (webhooks.resume, webhooks.delete))  # else its deliveries are counted
        async with self._session() as session:
            try:
                async with beginning(session, note, alone):
                    if not await change(session, id):
                        raise WebhookNotFound(id)
            except WebhookNotFound:
                await await_standby(session)  # an earlier call may have deleted it
                raise
        return note

    def _session(self) -> contextlib.AbstractAsyncContextManager[Session]:
        return own_session(self._database)


def webhook_choice(events: Any, *, bundle: UUID | str | None, job: UUID | str | None, **names: str | None) -> Choice:
    """Which events are meant, checked. Raises InvalidOption."""
    types = events if isinstance(events, str) else sorted(events)
    choice = choice_of(types, job=job, bundle=bundle, called="events", **names)
    if deaf := sorted(name for name in choice.types if name.startswith("webhook.")):
        raise InvalidOption("events", f"no webhook is told of webhooks: leave out {deaf[0]}; app.events() tells of it")
    return choice


def check_variable(name: str | None) -> None:
    """Refuse what names no environment variable. Raises InvalidOption, which does not tell what was given."""
    if name is not None and not _VARIABLE.fullmatch(name):
        raise InvalidOption("secret_env", "must be the name of an environment variable, not the secret itself")


def check_url(url: str, networks: Networks) -> None:
    """Refuse what could never be called. Raises InvalidOption, which tells nothing of the URL."""
    text: object = url
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidOption("url", "must be a URL of plain letters, without spaces; encode the others")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidOption("url", "cannot be read") from None
    if len(text) > _URL_LENGTH or not host or port == 0 or "@" in parts.netloc or "#" in text:
        raise InvalidOption("url", f"needs a host, has no user and no fragment, at most {_URL_LENGTH} characters")
    if not (text.startswith("https://") or (text.startswith("http://") and networks)):
        raise InvalidOption("url", "must be https; http goes only to addresses in webhook_networks")
    if not networks and _is_inside(host):
        raise InvalidOption("url", "must lead to a public address; webhook_networks allows more")


def _is_inside(host: str) -> bool:
    """Whether it is an address that is no public one. Where a name leads is known when it is dialled."""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False


def _of(webhook: UUID) -> dict[str, Any]:
    """What its deliveries have in common; of other jobs plain SQL may have written all but the task."""
    return {"task": DELIVERY, "queue": QUEUE, "origin": origin_of(webhook)}


def _event_of(job: Job) -> str:
    """The type that a delivery tells of. Empty if plain SQL has written what cannot be read."""
    with contextlib.suppress(KeyError, TypeError, ValueError):  # the last also if it is no JSON
        kind: object = orjson.loads(job.args["body"])["type"]
        if isinstance(kind, str):
            return kind
    return ""
