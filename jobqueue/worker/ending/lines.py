"""What the log says of how attempts ended: a line for each, of failures as much as the settings allow."""

from collections import Counter
from typing import Any

from jobqueue.base.job import AttemptError
from jobqueue.base.log import Log, get_logger, is_watched, job_facts
from jobqueue.base.outcome import (
    Cancelled,
    Dead,
    Done,
    LinedUp,
    Outcome,
    PutAside,
    Released,
    Retried,
    Snoozed,
    Suspended,
)
from jobqueue.base.service import Seldom
from jobqueue.base.settings import Settings
from jobqueue.worker.keeping.holds import Hold
from jobqueue.worker.keeping.tally import WORDS

_KINDS = 100


class Lines:
    """The lines of one worker."""

    def __init__(self, settings: Settings) -> None:
        watched = is_watched()
        self._failures = settings.log_failures or ("traceback" if watched else "class")
        self._completed_at = settings.log_completed or ("info" if watched else "debug")
        self._asides = Asides()
        self._log = get_logger(__name__)

    @property
    def says_completed(self) -> bool:
        """False if the lines of completed jobs go nowhere: thousands a second need not be made then."""
        return self._log.says(self._completed_at)

    def ended(self, hold: Hold, outcome: Outcome) -> None:
        """This outcome is written."""
        facts = job_facts(hold.claim)
        seconds = hold.ran and round(hold.ran, 3)
        match outcome:
            case Done() if self._completed_at == "info":
                self._log.info("job.completed", seconds=seconds, **facts)
            case Done():
                self._log.debug("job.completed", seconds=seconds, **facts)
            case Retried() | Dead():
                tell_failure(self._log, hold.claim, outcome, seconds, self._failures)
            case PutAside():
                jobs = self._asides.count((hold.claim["task"], outcome.reason))
                if jobs:  # an old worker meets a whole backlog of a new task: a line a second tells it
                    self._log.warning(
                        "job.put_aside", jobs=jobs, reason=outcome.reason, detail=outcome.detail or None, **facts
                    )
            case _:
                self._put_off(hold, outcome)

    def _put_off(self, hold: Hold, outcome: Outcome) -> None:
        facts = job_facts(hold.claim)
        match outcome:
            case Snoozed():
                self._log.info("job.snoozed", **facts)
            case Suspended():
                self._log.info("job.suspended", **facts)
            case Cancelled():
                self._log.info("job.cancelled", **facts)
            case Released():
                self._log.info("job.released", **facts)
            case LinedUp():
                self._log.debug("job.lined_up", **facts)

    def refused(self, hold: Hold, outcome: Outcome) -> None:
        """The fence kept this outcome out."""
        self._log.warning("job.refused", outcome=WORDS[type(outcome)], **job_facts(hold.claim))

    def locked(self, hold: Hold, outcome: Outcome) -> None:
        """Another transaction has the row to which this outcome is to be written."""
        self._log.warning("job.locked", outcome=WORDS[type(outcome)], **job_facts(hold.claim))

    def unsaved(self, hold: Hold, outcome: Outcome) -> None:
        """This outcome could not be written."""
        facts = {"job_id": str(hold.id), "task": hold.claim["task"]}
        self._log.error("job.outcome_unsaved", outcome=WORDS[type(outcome)], **facts)


def tell_failure(log: Log, claim: Any, outcome: Retried | Dead, seconds: float | None, how: str) -> None:
    """The line of an attempt that failed; `how` much it says."""
    facts = job_facts(claim)
    why = told(outcome.error, how)
    if isinstance(outcome, Retried):
        log.warning("job.retried", seconds=seconds, delay=outcome.delay, **facts, **why)
    else:
        log.error("job.dead", seconds=seconds, reason=outcome.reason, **facts, **why)


class Asides:
    """How many jobs were put aside of a task, told once a second; of many tasks together."""

    def __init__(self) -> None:
        self._untold = Counter[tuple[str, str]]()
        self._seldom: dict[tuple[str, str], Seldom] = {}

    def count(self, kind: tuple[str, str]) -> int:
        """One more of this kind; how many there are to tell now, 0 if it is too early."""
        if kind not in self._seldom and len(self._seldom) >= _KINDS:
            self._seldom.clear()  # whoever can write to the table could make up any number of names
            self._untold.clear()
        self._untold[kind] += 1
        return self._untold.pop(kind) if self._seldom.setdefault(kind, Seldom())() else 0


def told(error: AttemptError | None, how: str) -> dict[str, str | None]:
    """A message may quote the payload, and so may the traceback, which ends with it: told only where it is wanted."""
    if error is None:
        return {"error": None}
    if how == "class":
        return {"error": error.error_class}
    if how == "message" or not error.traceback:
        return {"error": error.error_class, "message": error.message}
    return {"error": error.error_class, "message": error.message, "exception": error.traceback.rstrip("\n")}
