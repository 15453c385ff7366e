"""`jobs cancel`, `retry`, `reschedule`, `move`, `priority` and `delete`: by ids, or by filters after a question."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from jobqueue.base.looking.search import Inside
from jobqueue.base.steering import Action, Change, Changes, Holder
from jobqueue.cli.jobs.meant import Meant
from jobqueue.cli.jobs.shortened import whole
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.asking import agreed, somebody_to_ask
from jobqueue.cli.terminal.failures import ExitCode, Refusal, as_usage, tell
from jobqueue.cli.terminal.output import write, write_json
from jobqueue.cli.terminal.user import this_user
from jobqueue.tasks.acting.filters import check_filters
from jobqueue.tasks.jobs import Jobs
from jobqueue.tasks.options import queue_named

_REFUSALS_SHOWN = 20
"""By filter; of ids that were given, each is told of."""

_DONE = {
    Action.CANCEL: ("cancel", "cancelled", ""),
    Action.RETRY: ("retry", "retried", ""),
    Action.RESCHEDULE: ("reschedule", "rescheduled", ""),
    Action.MOVE: ("move", "moved", " to queue {to}"),
    Action.SET_PRIORITY: ("give", "gave", " priority {priority}"),
    Action.DELETE: ("delete", "deleted", ""),
}
REASONS = {
    Change.TOO_LATE: "it has ended",
    Change.BUSY: "it runs, or waits for another job; cancel it first",
    Change.KEY_TAKEN: "another job holds its unique key by now",
    Change.NOT_FOUND: "there is no such job; it never existed, or retention has removed it",
}
_REFUSED = {
    Change.TOO_LATE: "had ended",
    Change.BUSY: "ran, waited for another job, or were locked",
    Change.KEY_TAKEN: "had a unique key that another job holds",
    Change.NOT_FOUND: "did not exist",
}


@dataclass(frozen=True, slots=True)
class Order:
    """What to do, with which jobs; `to` has what the action needs beside."""

    action: Action
    meant: Meant
    to: dict[str, Any] = field(default_factory=dict)
    dry_run: bool = False
    yes: bool = False
    as_json: bool = False

    def check(self) -> None:
        """Raise Refusal for what no database is needed to refuse."""
        with as_usage():
            check_filters(queue=self.meant.queue, task=self.meant.task, origin=self.meant.origin, key=self.meant.key)
            Inside(**self.meant.inside)
            if self.action is Action.MOVE:
                queue_named("to", self.to["to"])
        if self.action is Action.RESCHEDULE and (self.to["delay"] is None) == (self.to["at"] is None):
            raise Refusal("when? Give either --in or --at", ExitCode.USAGE)
        if self._always_asks and not somebody_to_ask():
            what = "removes jobs for good" if self.action is Action.DELETE else "by filter may end more than you mean"
            raise _unasked(f"jobs {self.action} {what}")

    @property
    def _always_asks(self) -> bool:
        by_filter = not self.meant.ids
        return not self._needs_nobody and (self.action is Action.DELETE or (self.action is Action.CANCEL and by_filter))

    @property
    def _needs_nobody(self) -> bool:
        return self.dry_run or self.yes

    @property
    def looks_first(self) -> bool:
        """True if it may have to be asked whether this is meant."""
        return self._always_asks or not (self._needs_nobody or self.meant.ids)

    def agreed(self, would: Changes) -> bool:
        """Ask, if so much needs a question. Raises Refusal if nobody is there."""
        if not would.changed or not (self._always_asks or len(would) > 1):
            return True
        if not somebody_to_ask():
            raise _unasked(f"this is about {len(would)} jobs")
        forever = " for good" if self.action is Action.DELETE else ""
        return agreed(f"{_told(self, would, done=False)}{forever}?")


def steer(place: Place, order: Order) -> ExitCode:
    """Do it, and say of the jobs that are meant what became of them."""
    ids = whole(place, order.meant.ids)
    would = asyncio.run(_steered(place, order, ids, dry=True)) if order.looks_first else None
    if would is None:
        changes = asyncio.run(_steered(place, order, ids, dry=order.dry_run))
    elif not order.agreed(would):
        tell(f"nothing was {_DONE[order.action][1] if order.action is not Action.SET_PRIORITY else 'changed'}")
        return ExitCode.ERROR
    else:  # what was shown, and no job that has come since
        done = asyncio.run(_steered(place, order, would.changed)) if would.changed else Changes()
        changes = Changes({**would.each, **done.each}, done.locked)
    if order.as_json:
        write_json(_document(order, changes))
    else:
        _write(order, changes)
    return _verdict(order, changes)


async def _steered(place: Place, order: Order, ids: Sequence[UUID], *, dry: bool = False) -> Changes:
    which = {} if ids else filter_of(order)

    async def call(jobs: Jobs) -> Changes:
        method = getattr(jobs, order.action)  # each action is named as its method
        changes: Changes = await method(*ids, by=this_user(), dry_run=dry, **which, **order.to)
        return changes

    return await place.ask(Jobs, call)


def filter_of(order: Order) -> dict[str, Any]:
    """The filters that are given, as the methods take them."""
    meant = order.meant
    if meant.key is not None:
        return {"key": meant.key, "task": meant.task}
    states = list(meant.state) or None
    of = {"bundle": meant.bundle, "bundled": False if meant.no_bundle else None}
    return {"state": states, "queue": meant.queue, "task": meant.task, "origin": meant.origin, **of, **meant.inside}


def _unasked(why: str) -> Refusal:
    return Refusal(f"{why}, and there is no terminal to ask: give --yes, or --dry-run to see", ExitCode.USAGE)


def _write(order: Order, changes: Changes) -> None:
    shown = list(changes.refused.items())[: None if order.meant.ids else _REFUSALS_SHOWN]
    for id, change in shown:
        holder = changes.locked.get(id)
        tell(f"{id}: {REASONS[change] if holder is None else f'an open transaction has locked it: {holder}'}")
    if more := len(changes.refused) - len(shown):
        tell(f"and {more} more that were refused; --json lists them all")
    if changes.each:
        write(("would " if order.dry_run else "") + _told(order, changes, done=not order.dry_run))
    else:
        tell("no such jobs, nothing to do")


def _told(order: Order, changes: Changes, *, done: bool) -> str:
    """The sum in words: `cancelled 3 jobs, asked 1 running job to end, 2 had ended`."""
    counts = Counter(changes.each.values())
    infinitive, past, rest = _DONE[order.action]
    parts = []
    if counts[Change.DONE] or not counts[Change.ASKED]:
        parts.append(f"{past if done else infinitive} {_jobs(counts[Change.DONE])}{rest.format(**order.to)}")
    if counts[Change.ASKED]:
        parts.append(f"{'asked' if done else 'ask'} {_jobs(counts[Change.ASKED], 'running ')} to end")
    parts += [f"{counts[change]} {words}" for change, words in _REFUSED.items() if counts[change]]
    return ", ".join(parts)


def _jobs(number: int, kind: str = "") -> str:
    return f"{number} {kind}{'job' if number == 1 else 'jobs'}"


def _document(order: Order, changes: Changes) -> dict[str, object]:
    return {
        "action": order.action,
        "dry_run": order.dry_run,
        "changed": len(changes),
        "counts": {str(change): jobs for change, jobs in sorted(Counter(changes.each.values()).items())},
        "jobs": [
            {"id": id, "change": change} | _locked_by(changes.locked.get(id)) for id, change in changes.each.items()
        ],
    }


def _locked_by(holder: Holder | None) -> dict[str, object]:
    return {} if holder is None else {"locked_by": asdict(holder)}


def _verdict(order: Order, changes: Changes) -> ExitCode:
    """By filter, a job that was overtaken by its end, or is gone, is no error, as long as the others were changed."""
    refused = set(changes.refused.values())
    overtaken = {Change.TOO_LATE, Change.NOT_FOUND}
    if refused and (order.meant.ids or not changes.changed or refused - overtaken):
        return ExitCode.ERROR
    return ExitCode.OK
