"""`jobs signal`: sends a signal to one job, which finds it in `ctx.wait_for`."""

import asyncio
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from jobqueue.base.codec import loads
from jobqueue.base.errors import InvalidPayload
from jobqueue.base.names import check_name
from jobqueue.base.steering import Change
from jobqueue.cli.jobs.meant import bare, is_id
from jobqueue.cli.jobs.shortened import whole
from jobqueue.cli.jobs.steering import REASONS
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, Refusal, as_usage, tell
from jobqueue.cli.terminal.output import write, write_json
from jobqueue.cli.terminal.user import this_user
from jobqueue.tasks.jobs import Jobs

_LEAST, _MOST = 2, 3
_APP = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""An App as it is named, which is no JSON."""


@dataclass(frozen=True, slots=True)
class Sending:
    """What is sent, and to which job; `text` is JSON."""

    id: str
    name: str
    text: str = "null"
    app: str | None = None

    @classmethod
    def of(cls, words: Sequence[str]) -> "Sending":
        """From `ID NAME [JSON]`, with an App before the id, or behind the JSON text. Raises Refusal."""
        said, app = list(words), None
        if said and not is_id(said[0]):
            app = said.pop(0)
        elif len(said) > _MOST or (len(said) == _MOST and _APP.fullmatch(said[-1])):
            app = said.pop()
        if not _LEAST <= len(said) <= _MOST or not is_id(said[0]):
            raise Refusal("what is sent to which job? jobs signal [APP] ID NAME [JSON]", ExitCode.USAGE)
        with as_usage(name="NAME"):
            check_name("name", said[1])
        return cls(bare(said[0]), said[1], said[2] if len(said) == _MOST else "null", app)

    @property
    def payload(self) -> Any:
        """As JSON values. Raises Refusal."""
        try:
            return loads(sys.stdin.read() if self.text == "-" else self.text)
        except InvalidPayload as error:
            hint = "" if self.text == "-" else "; a text has quotes of its own: '\"yes\"'. An App stands before the id"
            raise Refusal(f"{error}{hint}", ExitCode.USAGE) from None


def send(place: Place, sending: Sending, as_json: bool) -> ExitCode:
    """Send it, and say what became of it. Raises TooManySignals, InvalidPayload."""
    payload = sending.payload
    (id,) = whole(place, [sending.id])
    view = partial(Jobs, limit=lambda: place.settings.max_payload)
    change = asyncio.run(place.ask(view, lambda jobs: jobs.signal(id, sending.name, payload, by=this_user())))
    if as_json:
        write_json({"id": id, "signal": sending.name, "change": change})
    elif change.happened:
        write(f"sent {sending.name!r}")
    if not change.happened:
        tell(f"{id}: {REASONS[change]}")
    return ExitCode.OK if change is Change.DONE else ExitCode.ERROR
