"""The last look at a claimed job: has it passed the gates that its task and queue have now?

It may have been stored before there was a limit, by other code, or by plain SQL; or what a rate has given it was good
for an earlier moment.
"""

import time
from collections.abc import Callable
from typing import TypeAlias

from jobqueue.base.flows.limit import SCHEDULE
from jobqueue.base.outcome import LinedUp
from jobqueue.worker.keeping.holds import Hold

GatesNow: TypeAlias = Callable[[str, str, str], tuple[str, ...] | None]
"""The gates of a job with this task, queue, and arguments as JSON, or None. Raises what a key function does."""


def last_look(hold: Hold, gates_now: GatesNow) -> LinedUp | None:
    """None if the job may begin. Raises what `gates_now` does.

    A gate too many is no harm: its limit has gone from this code, and perhaps not from that of others.
    """
    claim = hold.claim
    passed = tuple(claim["gates"] or ())
    gates = gates_now(claim["task"], claim["queue"], claim["args"]) or ()
    if not set(gates) <= set(passed):
        own = [gate for gate in passed if gate.startswith(SCHEDULE) and gate not in gates]
        return LinedUp((*own, *gates))
    late = hold.start_by is not None and time.monotonic() > hold.start_by
    return LinedUp(passed) if late else None
