"""Finds the SQL of `schema/`: the package's own copy first, then the folder beside the package.

A statement file holds blocks that begin with `-- name:`, `-- takes:` and `-- gives:`; a test PREPAREs every block and
compares it with its header. `:"schema"` and the like are filled in as psql would; values are parameters, always.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.moments import EARLIEST, LATEST

_PACKAGE = Path(__file__).parents[2]
_AT_ONCE = ':"schema".event', "pg_advisory_xact_lock_shared(:'wake_class', :'log_key')"
_LATE = ':"schema".event_late', "null::text"  # the lock would hold up all readers until the caller commits
"""Where the log is written to, and what comes before."""
_WAKE_CLASS = 0x6A71  # "jq": our half of the advisory lock space


@dataclass(frozen=True, slots=True)
class Statement:
    """One named statement. A process needs few of them: the others are not taken apart."""

    name: str
    heads: tuple[str, str]
    body: str

    @property
    def takes(self) -> tuple[tuple[str, str], ...]:
        """Its parameters as (name, type)."""
        return _columns(self.heads[0].removeprefix("-- takes:"))

    @property
    def gives(self) -> tuple[tuple[str, str], ...]:
        """Its columns as (name, type)."""
        return _columns(self.heads[1].removeprefix("-- gives:"))

    @property
    def sql(self) -> str:
        """Its text without comments."""
        lines = (line for line in self.body.splitlines() if not line.lstrip().startswith("--"))
        return "\n".join(lines).strip().rstrip(";")


@cache
def schema_folder() -> Path:
    """The folder with `migrations/` and `statements/`. Raises ConfigurationError if the installation lacks it."""
    for folder in (_PACKAGE / "_schema", _PACKAGE.parent / "schema"):
        if (folder / "statements").is_dir():
            return folder
    raise ConfigurationError("jobqueue is installed without its SQL files; install it again")


@cache
def statements() -> dict[str, Statement]:
    """Every statement by name."""
    found: dict[str, Statement] = {}
    for file in sorted((schema_folder() / "statements").glob("*.sql")):
        for statement in parse(file.read_text(encoding="utf-8")):
            if statement.name in found:
                raise ConfigurationError(f"statement {statement.name} stands twice, again in {file.name}")
            found[statement.name] = statement
    return found


def parse(text: str) -> list[Statement]:
    """The blocks of one statements file."""
    blocks = re.split(r"^-- name: ", text, flags=re.MULTILINE)[1:]
    return [_block(block) for block in blocks]


def _block(block: str) -> Statement:
    name, takes, gives, body = block.split("\n", 3)
    return Statement(name.strip(), (takes, gives), body)


@cache
def _columns(header: str) -> tuple[tuple[str, str], ...]:
    pairs = (column.strip().split(" ", 1) for column in header.split(",") if column.strip())
    return tuple((name, kind) for name, kind in pairs)


@cache
def names(schema: str) -> dict[str, str]:
    """What the placeholders stand for in one schema."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,47}", schema):
        raise ConfigurationError("schema: must be 1 to 48 lower-case letters, digits and underscores")
    return {
        ':"schema"': f'"{schema}"',
        ":'schema'": f"'{schema}'",
        ":'wake_channel'": f"'{channel(schema, 'wake')}'",
        ":'done_channel'": f"'{channel(schema, 'done')}'",
        ":'log_channel'": f"'{channel(schema, 'log')}'",
        ":'wake_class'": f"'{_WAKE_CLASS}'",
        ":'wake_key'": f"'{lock_key(schema, 'wake')}'",
        ":'archive_key'": f"'{lock_key(schema, 'archive')}'",
        ":'log_key'": f"'{lock_key(schema, 'log')}'",
        ":'earliest'": f"'{EARLIEST.isoformat()}'",
        ":'latest'": f"'{LATEST.isoformat()}'",
    }


def channel(schema: str, purpose: str) -> str:
    """A NOTIFY channel of a schema: always the same 34 bytes long; LISTEN would silently cut a name after 63."""
    return f"jobqueue_{purpose}_{hashlib.sha256(schema.encode()).hexdigest()[:20]}"


def lock_key(schema: str, purpose: str) -> int:
    """The second half of an advisory lock's key: a signed 32-bit number."""
    digest = hashlib.sha256(f"{schema}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big", signed=True)


def fill(sql: str, schema: str) -> str:
    """The text with its placeholders replaced."""
    for placeholder, value in names(schema).items():
        sql = sql.replace(placeholder, value)
    return sql


@cache
def statement(name: str, schema: str = "jobqueue", *, late: bool = False) -> str:
    """The SQL of one statement, ready for one schema.

    `late`: for a transaction of a caller's, which may stay open. What it has to say goes into the log at its commit.
    """
    log, entering = _LATE if late else _AT_ONCE
    return fill(statements()[name].sql.replace(':"log"', log).replace(':"entering"', entering), schema)
