"""What people look for in jobs: how it is said, and how alike failures are told."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import JobState
from jobqueue.base.names import check_name

TEXT_LENGTH = 200
"""Characters of a text that is looked for, and of a value in the arguments."""
_ERROR_LENGTH = 200
_KEY_LENGTH = 250
_PATHS = 10
_PATH_LENGTH = 500
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|([^."][^.]*)')
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_WORD = re.compile(rf'(?:{_QUOTED}|[^\s"])+')
_FILTER = re.compile(
    rf"(state|queue|task|origin|error|key|bundle|reason|fingerprint|args\.(?:{_QUOTED}|[^:\"])*):(.*)", re.DOTALL
)
_ID = re.compile(r"(?=.*[0-9])[0-9A-Fa-f-]{8,36}")
_NAMES = ("queue", "task", "origin")
_SEARCH_LENGTH = 2_000
_SHOWN = 60


def fingerprint_of(task: str, error_class: str, code_place: str | None) -> str:
    """What failures that are alike have in common, in 16 hex digits: the task, the class of the error, its function.

    The line is left out: every deploy moves lines, and a group must outlive it. As `fingerprint` in the schema.
    """
    place = code_place or ""
    file, rest = place.partition(":")[0], place[place.find(":") + 1 :]
    facts = f"{task}\n{error_class}\n{file} {rest[rest.find(' ') + 1 :]}"
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Inside:
    """Filters by what is in a job; each None or empty for any. Raises InvalidOption."""

    error: str | None = None
    fingerprint: str | None = None
    args: Mapping[str, Any] | None = None
    text: str | None = None
    key: str | None = None
    reason: str | None = None
    pairs: tuple[tuple[tuple[str, ...], str], ...] = field(default=(), init=False)
    """The paths of `args`, and the texts of the values that are to stand there."""

    def __post_init__(self) -> None:
        """Check what was given."""
        for option, limit in (("error", _ERROR_LENGTH), ("text", TEXT_LENGTH), ("key", _KEY_LENGTH)):
            _check_text(option, getattr(self, option), limit)
        if self.reason is not None:
            check_name("reason", self.reason)
        given: object = self.fingerprint
        if given is not None and not (isinstance(given, str) and _FINGERPRINT.fullmatch(given)):
            raise InvalidOption("fingerprint", "must be the fingerprint of a group of errors: 16 of 0 to 9, a to f")
        object.__setattr__(self, "pairs", _pairs(self.args))

    def document(self) -> str | None:
        """As `job_meant` in the schema takes it; None if nothing is asked."""
        names = ("error", "fingerprint", "text", "key", "reason")
        said: dict[str, Any] = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.pairs:
            said["args"] = [(_array(path), value) for path, value in self.pairs]
        if self.text is not None:
            escaped = json.dumps(self.text, ensure_ascii=False)[1:-1]
            said |= {"escaped": escaped} if escaped != self.text else {}
        return json.dumps(said, ensure_ascii=False) if said else None


def path_of(text: str) -> tuple[str, ...]:
    """`order.items.0.sku` as its parts; one that has a dot itself stands in quotes: `"a.b".c`. Raises InvalidOption."""
    parts: list[str] = []
    place = 0
    while len(text) <= _PATH_LENGTH and (found := _PART.match(text, place)):
        parts.append(found[2] if found[1] is None else re.sub(r"\\(.)", r"\1", found[1]))
        place = found.end()
        if place == len(text):
            return tuple(parts)
        if text[place] != ".":
            break
        place += 1
    raise InvalidOption("args", f'{text[:50]!r} is no path: order.id, items.0.sku, or with quotes "a.b".c')


def _pairs(given: object) -> tuple[tuple[tuple[str, ...], str], ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping) or not all(isinstance(path, str) for path in given):
        raise InvalidOption("args", 'must be a dict of paths and values: {"order.id": 88123}')
    if len(given) > _PATHS:
        raise InvalidOption("args", f"must have at most {_PATHS} paths, not {len(given)}")
    return tuple((path_of(_sound("args", path)), _value_text(value)) for path, value in given.items())


def _value_text(value: object) -> str:
    """As PostgreSQL shows the value: a string as it is, all else as JSON."""
    if isinstance(value, str):
        return _checked("args", value, TEXT_LENGTH)
    if value is None or isinstance(value, bool | int | float):
        return _checked("args", json.dumps(value), TEXT_LENGTH)
    raise InvalidOption("args", f"a value must be text, a number, true, false or null, not {type(value).__name__}")


def _check_text(option: str, value: object, limit: int) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise InvalidOption(option, f"must be text, not {type(value).__name__}")
    if not value:
        raise InvalidOption(option, "must not be empty")
    _checked(option, value, limit)


def _checked(option: str, value: str, limit: int) -> str:
    if len(value) > limit:
        raise InvalidOption(option, f"must have at most {limit} characters, not {len(value)}")
    return _sound(option, value)


def _sound(option: str, value: str) -> str:
    """What PostgreSQL can take: no NUL, no half characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidOption(option, "must be sound Unicode, without lone surrogates") from None
    if "\0" in value:
        raise InvalidOption(option, "must not have the character NUL")
    return value


def _array(path: tuple[str, ...]) -> str:
    """A path as text of PostgreSQL's array type."""
    return "{" + ",".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in path) + "}"


@dataclass(frozen=True, slots=True)
class Search:
    """What somebody typed into a search box."""

    id: str | None = None
    """A job's id, or the beginning or the end of one, if that was all."""
    filters: dict[str, Any] = field(default_factory=dict)
    """As `app.jobs.list` takes them; empty for all jobs."""


def read_search(text: str) -> Search:
    """What is meant by `args.to:ada@example.com state:dead queue:mail billing`.

    `name:value` is a filter: `state` (some with commas), `queue`, `task`, `origin`, `error`, `key`, `bundle`, `reason`,
    `fingerprint`, and `args.PATH`. All other words together are a text. Quotes take in blanks, and make a text of what
    looks like something else: `error:"A B"`, `"state:dead"`. Eight characters that may be of an id, a digit
    among them, are one if nothing else is said. Raises InvalidOption, which names the word that cannot be understood.
    """
    words = _words(text)
    if len(words) == 1 and _ID.fullmatch(words[0]):
        return Search(id=words[0].lower())
    filters: dict[str, Any] = {}
    loose: list[str] = []
    for word in words:
        with _naming(word):
            if found := _FILTER.fullmatch(word):
                _add(filters, found[1], _unquoted(found[2]))
            else:
                loose.append(_unquoted(word))
    said = " ".join(filter(None, loose))
    if said:
        with _naming(said):
            filters["text"] = Inside(text=said).text
    return Search(filters=filters)


def _words(text: str) -> list[str]:
    given: object = text
    if not isinstance(given, str) or len(text) > _SEARCH_LENGTH:
        raise InvalidOption("search", f"must be text of at most {_SEARCH_LENGTH} characters")
    words: list[str] = []
    rest = text.lstrip()
    while rest:
        found = _WORD.match(rest)
        end = found.end() if found else 0
        if found is None or rest[end : end + 1].strip():
            raise InvalidOption(
                "search", f'{_shown(rest.split()[0])} cannot be understood: its quote has no end; \\" is one'
            )
        words.append(found[0])
        rest = rest[end:].lstrip()
    return words


@contextmanager
def _naming(word: str) -> Iterator[None]:
    """Say which word cannot be understood."""
    try:
        yield
    except InvalidOption as error:
        raise InvalidOption("search", f"{_shown(word)} cannot be understood: {error}") from None


def _shown(word: str) -> str:
    """As much of it as an error needs, in characters that can be written anywhere."""
    return "".join(each if each.isprintable() else "\ufffd" for each in word[:_SHOWN])


def _unquoted(word: str) -> str:
    return re.sub(
        _QUOTED, lambda quoted: re.sub(r"\\(.)", r"\1", quoted[0][1:-1], flags=re.DOTALL), word, flags=re.DOTALL
    )


def _add(filters: dict[str, Any], name: str, value: str) -> None:
    """One more filter. Raises InvalidOption."""
    if name == "state":
        filters.setdefault("state", []).extend(_state(one) for one in value.split(","))
        return
    if name.startswith("args."):
        path, values = name.removeprefix("args."), filters.setdefault("args", {})
        if path in values:
            raise InvalidOption(name, "is there twice")
        Inside(args={**values, path: value})
        values[path] = value
        return
    if name in filters:
        raise InvalidOption(name, "is there twice")
    if name == "bundle":
        filters[name] = _bundle(value)
        return
    if name in _NAMES:
        check_name(name, value)
    else:
        alone: dict[str, Any] = {name: value}
        Inside(**alone)
    filters[name] = value


def _state(word: str) -> JobState:
    try:
        return JobState(word.lower())
    except ValueError:
        raise InvalidOption("state", f"must be one of {', '.join(JobState)}") from None


def _bundle(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise InvalidOption("bundle", "must be the id of a bundle, a UUID") from None
