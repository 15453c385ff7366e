"""What a handler means by what it raised: a task group wraps everything that its tasks raise in an ExceptionGroup."""

import asyncio

from jobqueue.base.outcome import Cancel, Fatal, Retry, Snooze

_DECISIVE = (Fatal, Cancel, Retry)


def leaves_of(error: BaseException) -> list[BaseException]:
    """The exceptions in a group and in the groups inside it, in their order; of another exception itself."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(reversed(each.exceptions))
        else:
            found.append(each)
    return found


def meant_by(error: BaseException) -> BaseException:
    """The exception that decides about the job: itself, or of a group one of its leaves, else the group.

    Fatal counts more than Cancel, Cancel more than Retry, Retry more than any other error, and that more than Snooze:
    a failure beside it is not forgotten. Of several alike the first counts. A leaf that is alone speaks for its group.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [leaf for leaf in leaves_of(error) if not isinstance(leaf, asyncio.CancelledError)]
    for kind in _DECISIVE:
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    failures = [leaf for leaf in leaves if not isinstance(leaf, Snooze)] or leaves[:1]
    return failures[0] if len(failures) == 1 else error
