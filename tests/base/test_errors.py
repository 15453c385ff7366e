"""Errors: one tree, facts as attributes, texts that say what to do next."""

import inspect
import pickle
import re
from datetime import UTC, datetime
from uuid import UUID

import pytest

from jobqueue.base import errors
from jobqueue.base.errors import (
    AppClosed,
    BulkNotFound,
    BundleEnded,
    BundleNotFound,
    ClaimLost,
    ConfigurationError,
    DatabaseError,
    DeferUnknown,
    DuplicateJob,
    DuplicatePhase,
    DuplicateTask,
    EventsLost,
    InvalidOption,
    InvalidPayload,
    InvalidSignature,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobQueueError,
    KeyLocked,
    LimitConflict,
    NotMigrated,
    QueueLocked,
    ResultTimeout,
    RouterNotIncluded,
    ScheduleNotFound,
    SchemaTooNew,
    TooManySignals,
    UnknownLimit,
    WaitTimeout,
    WebhookNotFound,
)
from jobqueue.base.job import JobState
from jobqueue.base.outcome import Cancel, Fatal, Retry, Snooze

ID = UUID(int=5)


def error_classes() -> dict[str, type[JobQueueError]]:
    found = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, JobQueueError)}
    assert len(found) >= 14
    return found


def test_all_errors_share_one_base() -> None:
    """Every error of the module is a JobQueueError and says in its docstring when it is raised."""
    for name, cls in error_classes().items():
        assert issubclass(cls, JobQueueError)
        assert re.match(r"Raised (when|by|while|at)\b|Base of all", cls.__doc__ or ""), name


def test_the_tree_in_the_docstring_is_complete() -> None:
    """The tree drawn on top of the module names exactly the classes there are."""
    drawn = set(re.findall(r"^(?:[├└]── )?([A-Z]\w+)", errors.__doc__ or "", re.M)) - {"Every", "Facts"}

    assert set(error_classes()) == drawn


TEXTS: list[tuple[JobQueueError, list[str]]] = [
    (InvalidOption("queue", "must be short"), ["queue: must be short"]),
    (InvalidSignature("shop.f", "it is a lambda"), ["shop.f cannot be a task", "lambda"]),
    (InvalidPayload("f arguments", "mail.to[0]", "nan", "is NaN"), ["f arguments: mail.to[0]: is NaN"]),
    (InvalidPayload("f arguments", "", "size", "is too long"), ["f arguments: is too long"]),
    (DuplicateTask("send", "a.send", "b.send"), ["'send'", "a.send", "b.send", "name="]),
    (RouterNotIncluded("send"), ["'send'", "app.include(router)"]),
    (AppClosed(), ["closed"]),
    (DatabaseError("TooManyConnectionsError 53300: full", "53300"), ["cannot be used", "53300: full"]),
    (NotMigrated("jobs", 2), ["'jobs'", "2", "jobqueue migrate up"]),
    (SchemaTooNew("jobs", "0009_pre_x"), ["'jobs'", "0009_pre_x", "upgrade"]),
    (DuplicateJob(ID, "send"), [str(ID), "'send'", "nothing was stored", "on_conflict="]),
    (DuplicateJob(ID, "send", in_one_call=True), ["'send'", "this very call", "nothing was stored"]),
    (DeferUnknown(ID), [str(ID), "options(id="]),
    (KeyLocked("send", "psql (pid 7)"), ["'send'", "psql (pid 7)", "nothing was stored"]),
    (LimitConflict("smtp", "task 'a'", "task 'b'"), ["'smtp'", "task 'a'", "task 'b'", "another name"]),
    (UnknownLimit("smtp"), ["'smtp'", "app.limits.list()"]),
    (QueueLocked("mail", "psql (pid 7)"), ["'mail'", "psql (pid 7)", "nothing was changed"]),
    (BundleNotFound(ID), [str(ID), "deleted", "connection="]),
    (DuplicatePhase("charge"), ["'charge'", "number them"]),
    (TooManySignals(ID), [str(ID), "1,000", "nothing was sent"]),
    (BundleEnded(ID), [str(ID), "ctx.bundle"]),
    (EventsLost("48213"), ["retention", "after='48213'"]),
    (JobNotFound(ID), [str(ID), "retention", "still open"]),
    (BulkNotFound(ID), [str(ID), "app.bulks.list()"]),
    (WebhookNotFound(ID), [str(ID), "app.webhooks.list()"]),
    (ScheduleNotFound("digest"), ["'digest'", "deleted", "for a week", "app.schedules.list()"]),
    (JobFailed(ID, "attempts", "ValueError", "boom"), [str(ID), "attempts", "ValueError: boom"]),
    (JobFailed(ID, "expired", "", ""), [str(ID), "(expired)"]),
    (JobCancelled(ID, "no longer wanted"), [str(ID), "no longer wanted"]),
    (ResultTimeout(ID, "send", 5, JobState.READY, "it is ready"), [str(ID), "(send)", "within 5 s: it is ready"]),
    (
        WaitTimeout("bundle", ID, 5, "2 of its 3 jobs are left"),
        [f"bundle {ID}", "within 5 s: 2 of its 3 jobs are left"],
    ),
    (JobCancelled(ID, None), [str(ID)]),
]


@pytest.mark.parametrize(("error", "texts"), TEXTS)
def test_texts_carry_the_facts(error: JobQueueError, texts: list[str]) -> None:
    """Each text names its facts and, where there is one, the way out."""
    for text in texts:
        assert text in str(error)


@pytest.mark.parametrize(
    "error",
    [
        *(error for error, _ in TEXTS), ConfigurationError("dsn: is wrong"), ClaimLost(ID), JobQueueError("?"),
        Retry(delay=5, queue="q"), Snooze(at=datetime.now(UTC)), Cancel(), Fatal("no", data={"a": 1}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(error: Exception, protocol: int) -> None:
    """Between processes an error keeps its class, text and facts: one that cannot be read again breaks a whole pool."""
    error.add_note("seen in a pool")

    again = pickle.loads(pickle.dumps(error, protocol))

    assert (type(error), str(error), vars(error)) == (type(again), str(again), vars(again))


def test_every_error_is_among_the_texts() -> None:
    """What is not pickled above would be found by users."""
    tried = {type(error) for error, _ in TEXTS} | {ConfigurationError, ClaimLost, JobQueueError}
    assert set(error_classes().values()) == tried


def test_errors_are_what_python_calls_them_too() -> None:
    """Who catches ValueError or TypeError gets those of ours that are one."""
    for cls in (ConfigurationError, InvalidOption, InvalidPayload):
        assert issubclass(cls, ValueError)
    assert issubclass(InvalidSignature, TypeError)
    assert issubclass(DatabaseError, OSError)


def test_facts_are_attributes() -> None:
    """Programs need not read texts."""
    payload, failed = InvalidPayload("w", "a.b", "nan", "is NaN"), JobFailed(ID, "fatal", "E", "m", data=[1])
    held = DuplicateJob(ID, "send")

    assert ("a.b", "nan", "is NaN") == (payload.path, payload.kind, payload.rule)
    assert (ID, "send") == (held.id, held.task)
    assert (ID, "fatal", "E", "m", [1]) == (failed.id, failed.reason, failed.error_class, failed.message, failed.data)
