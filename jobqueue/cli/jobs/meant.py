"""Which jobs are meant: by their ids, or by what they have in common. And the App that may stand beside the ids.

An id may be shortened to its beginning or its end, as `top` shows it; `shortened.py` finds out which that is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from jobqueue.base.job import JobState
from jobqueue.cli.parts import is_whole
from jobqueue.cli.terminal.failures import ExitCode, Refusal


@dataclass(frozen=True, slots=True)
class Meant:
    """Ids, or at least one filter, never both."""

    ids: tuple[str, ...] = ()
    app: str | None = None
    state: tuple[JobState, ...] = ()
    queue: str | None = None
    task: str | None = None
    origin: str | None = None
    bundle: UUID | None = None
    no_bundle: bool = False
    key: str | None = None
    inside: Mapping[str, Any] = field(default_factory=dict)
    """What is to be in them, as `Inside` takes it."""

    @classmethod
    def of(
        cls,
        words: Sequence[str] | None,
        state: Sequence[JobState] | None,
        queue: str | None,
        task: str | None,
        origin: str | None,
        bundle: UUID | None,
        no_bundle: bool,
        key: str | None,
        *,
        arg: Sequence[str] | None,
        **inside: str | None,
    ) -> "Meant":
        """From the words on the command line. Raises Refusal."""
        ids, app = ids_and_app(words or ())
        said = {name: value for name, value in {**inside, "args": values_of(arg)}.items() if value is not None}
        meant = cls(ids, app, tuple(state or ()), queue, task, origin, bundle, no_bundle, key, said)
        others = any((meant.state, no_bundle, said)) or any(value is not None for value in (queue, origin, bundle))
        filtered = others or task is not None or key is not None
        if ids and filtered:
            raise Refusal("give ids, or filters such as --queue, not both", ExitCode.USAGE)
        if not ids and not filtered:
            raise Refusal(
                "which jobs? Give ids, or a filter: --state, --queue, --task, --origin, --error, --arg, --text, "
                "--fingerprint, --bundle, --no-bundle, --key",
                ExitCode.USAGE,
            )
        if bundle is not None and no_bundle:
            raise Refusal("give --bundle or --no-bundle, not both", ExitCode.USAGE)
        if key is not None and (task is None or others):
            raise Refusal("--key: names one job of a task: give --task with it, and no other filter", ExitCode.USAGE)
        return meant


def values_of(arg: Sequence[str] | None) -> dict[str, str] | None:
    """From `order.id=88123`. Raises Refusal."""
    if not arg:
        return None
    found = [_VALUE.fullmatch(each) for each in arg]
    if not all(found):
        raise Refusal("--arg: give a path and a value, such as --arg order.id=88123", ExitCode.USAGE)
    values = {each[1]: each[2] for each in found if each is not None}
    if len(values) < len(found):
        raise Refusal("--arg: a path may be given once", ExitCode.USAGE)
    return values


def ids_and_app(words: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """In whichever order they came: an id is never taken for an App."""
    apps = [word for word in words if not is_id(word)]
    if len(apps) > 1:
        raise Refusal(f"at most one of these can be an App, the others are no ids: {', '.join(apps)}", ExitCode.USAGE)
    ids = dict.fromkeys(bare(word) for word in words if is_id(word))
    return tuple(ids), (apps[0] if apps else None)


def id_and_app(words: Sequence[str]) -> tuple[str, str | None]:
    """One id, and perhaps an App."""
    if sum(map(is_id, words)) != 1:
        raise Refusal("give the id of one job, a UUID, and perhaps an App", ExitCode.USAGE)
    ids, app = ids_and_app(words)
    return ids[0], app


_VALUE = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^="])+)=(.*)', re.DOTALL)
_PART = re.compile(r"(?=.*[0-9])[0-9A-Fa-f-]{8,36}")
"""Of an id; with a digit, or it may be the name of a module."""


def is_id(word: str) -> bool:
    """True for an id, whole or shortened."""
    return is_whole(word) or _PART.fullmatch(bare(word)) is not None


def bare(word: str) -> str:
    """Without the dots that stand for the rest."""
    return word.removeprefix("…").removeprefix("...").removesuffix("…").removesuffix("...")
