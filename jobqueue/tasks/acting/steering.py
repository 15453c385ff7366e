"""The verbs of `app.jobs` that change jobs: cancel, retry, reschedule, move, set_priority, delete."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias, Unpack
from uuid import UUID

from uuid_utils.compat import uuid7

from jobqueue.base.acting.audit import By, Doer
from jobqueue.base.acting.bulk import Bulk
from jobqueue.base.errors import InvalidOption
from jobqueue.base.moments import Seconds
from jobqueue.base.names import check_whole
from jobqueue.base.steering import Action, Change, Changes
from jobqueue.store import steering
from jobqueue.store.acting import bulks
from jobqueue.store.acting.audit import Noted, meant
from jobqueue.store.connection.edge import executor_for
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.pool import Database
from jobqueue.store.standby import await_standby
from jobqueue.tasks.acting.filters import PAGE, Filter, check_meant, pages, plain, shown, wanted_by
from jobqueue.tasks.options import PRIORITIES, DeferOptions, check_id, queue_named

Steer: TypeAlias = Callable[..., Awaitable[dict[UUID, Change]]]
"""Of an executor, some ids, whether to notify in any case, and what all pages of a call share."""


class Steering:
    """Changes stored jobs, finished ones as long as the archive keeps them."""

    def __init__(
        self, database: Callable[[], Awaitable[Database]], on: Callable[[object], Executor] | None = None
    ) -> None:
        """`on` gives the executor for a caller's connection, then all that is used; None where nobody has one."""
        self._database = database
        self._on = on

    async def cancel(
        self,
        *ids: UUID,
        by: Doer | None = None,
        connection: object | None = None,
        dry_run: bool = False,
        **which: Unpack[Filter],
    ) -> Changes:
        """End jobs: those that wait at once, those that run as soon as their worker has heard of it (about at once).

        By id, or by a `Filter`. Says of each job what became of it; a second cancel of the same job is told `asked`
        again while it runs, and `too_late` once it has ended. A job that somebody's open transaction has locked is not
        waited for: it is `busy`, the others are done, and `locked` names the holder. `connection` joins the caller's
        transaction, `dry_run` only says what would be. `by` is who does it, for the audit, which is written in the
        transactions that make the changes. Raises InvalidOption without any id or filter.
        """
        return await self.steer(Action.CANCEL, ids, which, by=by, connection=connection, dry_run=dry_run)

    async def retry(
        self,
        *ids: UUID,
        from_start: bool = False,
        by: Doer | None = None,
        connection: object | None = None,
        dry_run: bool = False,
        **which: Unpack[Filter],
    ) -> Changes:
        """Run jobs again that have ended, with all their attempts and their history; those that wait are due at once.

        Phases that are completed do not run again, unless `from_start` forgets what they have given. Refused for a job
        that runs, or waits for others, or whose unique key another job holds by now. A filter without `state` means
        dead jobs. Otherwise as `cancel`.
        """
        to = {"from_start": True} if from_start else {}
        return await self.steer(Action.RETRY, ids, which, to, by=by, connection=connection, dry_run=dry_run)

    async def reschedule(
        self,
        *ids: UUID,
        delay: Seconds | None = None,
        at: datetime | None = None,
        by: Doer | None = None,
        connection: object | None = None,
        dry_run: bool = False,
        **which: Unpack[Filter],
    ) -> Changes:
        """Give jobs that wait another due time: `at`, or `delay` (seconds or timedelta) from now.

        One that waits for others goes on doing so, and runs when both have come. Otherwise as `cancel`.
        """
        to = check_target(Action.RESCHEDULE, delay=delay, at=at)
        return await self.steer(Action.RESCHEDULE, ids, which, to, by=by, connection=connection, dry_run=dry_run)

    async def move(
        self,
        *ids: UUID,
        to: str,
        by: Doer | None = None,
        connection: object | None = None,
        dry_run: bool = False,
        **which: Unpack[Filter],
    ) -> Changes:
        """Move jobs that wait to another queue, where they line up anew. Otherwise as `cancel`."""
        there = check_target(Action.MOVE, to=to)
        return await self.steer(Action.MOVE, ids, which, there, by=by, connection=connection, dry_run=dry_run)

    async def set_priority(
        self,
        *ids: UUID,
        priority: int,
        by: Doer | None = None,
        connection: object | None = None,
        dry_run: bool = False,
        **which: Unpack[Filter],
    ) -> Changes:
        """Give jobs that wait another priority; they keep their place in it. Otherwise as `cancel`."""
        to = check_target(Action.SET_PRIORITY, priority=priority)
        return await self.steer(Action.SET_PRIORITY, ids, which, to, by=by, connection=connection, dry_run=dry_run)

    async def delete(
        self,
        *ids: UUID,
        by: Doer | None = None,
        connection: object | None = None,
        dry_run: bool = False,
        **which: Unpack[Filter],
    ) -> Changes:
        """Remove jobs and their results for good, finished or waiting; never one that runs. Otherwise as `cancel`."""
        return await self.steer(Action.DELETE, ids, which, by=by, connection=connection, dry_run=dry_run)

    async def bulk(
        self,
        action: Action | str,
        *,
        to: str | None = None,
        priority: int | None = None,
        delay: Seconds | None = None,
        at: datetime | None = None,
        from_start: bool = False,
        by: Doer | None = None,
        connection: object | None = None,
        **which: Unpack[Filter],
    ) -> Bulk:
        """Have workers do it to all jobs of a filter, however many: `bulk("retry", queue="mail")`, by pages of 500.

        Any worker does, page by page, whatever becomes of this process; `app.bulks` watches, waits and cancels. Each
        page commits with its numbers and its part of the audit. Only jobs that are there now are meant, in the state
        that they have when their turn comes; of those that have ended, only what had done so by now. Jobs that others
        have locked are tried again at the end, twice, and are then `busy`. `to`, `priority`, `delay`, `at` and
        `from_start` are as in the verb of that name; a `delay` counts from now. Raises InvalidOption.
        """
        what, doer = _action(action), By.of(by)
        target = check_target(what, **_said(what, to=to, priority=priority, delay=delay, at=at, from_start=from_start))
        if which.get("key") is not None:
            raise InvalidOption("key", "means one job: no bulk is needed for that")
        given = check_meant((), which)
        wanted_by(what, given)
        if "bundle" in given:
            given["bundle"] = check_id(given["bundle"], "bundle")
        id = uuid7()
        note = _note(what, (), which, target | {"bulk": str(id)}, doer)
        async with self._executor(connection) as executor, executor.transaction():
            if note is not None:
                await note.add(executor, 0, 0)
                note.keep()
            number = None if note is None else note.id
            filter = {name: plain(value) for name, value in given.items()}
            await bulks.create(executor, id, doer, what, bulks.text(filter), bulks.text(target), number)
            stored = await bulks.find(executor, id)
        assert stored is not None  # noqa: S101 - it was stored in this transaction
        return stored

    async def steer(
        self,
        action: Action,
        ids: Sequence[UUID],
        which: Mapping[str, object],
        to: Mapping[str, Any] | None = None,
        *,
        by: Doer | Noted | None = None,
        connection: object | None = None,
        dry_run: bool = False,
    ) -> Changes:
        """Any of these. `by` may be the row of a call that does more than this."""
        note = by if isinstance(by, Noted) else _note(action, ids, which, to or {}, By.of(by))
        changes, tries = Changes(), steering.Tries(note)
        change = change_of(action, to or {})
        always = connection is not None or note is not None  # see wake(): its lock would be held until the commit
        async with self._executor(connection) as executor:
            async for page in pages(executor, action, ids, which):
                changes.each.update(
                    await steering.look(executor, action, page)
                    if dry_run
                    else await change(executor, page, always, tries)
                )
            if not dry_run:
                busy = [id for id, change in changes.each.items() if change is Change.BUSY]
                changes.locked.update(await steering.row_holders(executor, busy[:PAGE]))
                if which or changes.refused:
                    await await_standby(
                        executor
                    )  # what there was nothing left to do for, an earlier call may have done
        return changes

    def _executor(self, connection: object | None) -> contextlib.AbstractAsyncContextManager[Executor]:
        return executor_for(connection, self._on, self._database)


def _action(given: Action | str) -> Action:
    try:
        return Action(given)
    except ValueError:
        raise InvalidOption("action", f"must be one of {', '.join(Action)}") from None


_TAKES = {
    Action.RETRY: {"from_start"}, Action.MOVE: {"to"}, Action.SET_PRIORITY: {"priority"},
    Action.RESCHEDULE: {"delay", "at"},
}  # fmt: skip


def _said(action: Action, **said: Any) -> dict[str, Any]:
    """What an action takes of all that an action may take. Raises InvalidOption for what is another's."""
    takes = _TAKES.get(action, set())
    if wrong := [name for name, value in said.items() if name not in takes and value not in (None, False)]:
        raise InvalidOption(wrong[0], f"is not for {action}")
    return {name: said[name] or None if name == "from_start" else said[name] for name in takes}


def check_target(action: Action, **said: Any) -> dict[str, Any]:
    """What an action needs beside the jobs, as it can be done and kept: without what is None. Raises InvalidOption."""
    to = dict(said)
    if action is Action.RESCHEDULE:
        checked = DeferOptions(delay=said.get("delay"), at=said.get("at"))
        if said.get("delay") is None and said.get("at") is None:
            raise InvalidOption("delay", "give either delay= or at=")
        to = {"delay": checked.delay, "at": checked.at}
    elif action is Action.MOVE:
        to = {"to": queue_named("to", said["to"])}
    elif action is Action.SET_PRIORITY:
        if said["priority"] is None:
            raise InvalidOption("priority", "must be a whole number")
        to = {"priority": check_whole("priority", said["priority"], PRIORITIES)}
    return {name: value for name, value in to.items() if value is not None}


def change_of(action: Action, to: Mapping[str, Any]) -> Steer:
    """What does it to a page of jobs."""
    match action:
        case Action.CANCEL:
            return steering.cancel
        case Action.RETRY:
            return partial(steering.retry, **to)
        case Action.DELETE:
            return steering.delete
        case Action.MOVE:
            return partial(_change, action, queue=to["to"])
        case _:
            return partial(_change, action, **to)


async def _change(
    action: Action, executor: Executor, ids: Sequence[UUID], always: bool, tries: steering.Tries, **to: Any
) -> dict[UUID, Change]:
    return await steering.change(executor, action, ids, always, tries, **to)


def _note(
    action: Action, ids: Sequence[UUID], which: Mapping[str, object], to: Mapping[str, Any], by: By | None
) -> Noted | None:
    """The row of one call; `check_meant` has refused by then what is no id."""
    if by is None:
        return None
    check_meant(ids, which)
    what = meant(ids) if ids else {"filter": shown(which)}
    return Noted(by, f"job.{action}", what | dict(to))
