"""The SQL in `schema/statements`: its headers tell the truth, and none of it is dead."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from jobqueue.store.schema.statements import Statement, parse, schema_folder, statement, statements
from tests.architecture.sources import PACKAGE, matches, nodes, package_files, place
from tests.support.jobs.store import connect

FOLDER = schema_folder() / "statements"
HEADS = ("-- name: ", "-- takes:", "-- gives:")
# What PostgreSQL's catalogue, and so asyncpg, calls the types that we write as SQL does.
SQL_NAMES = {"int8": "bigint", "int4": "integer", "int2": "smallint", "float8": "double precision", "bool": "boolean"}


@cache
def stated() -> dict[str, list[Statement]]:
    """Return the statements of each file, by the file's stem."""
    found = {file.stem: parse(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.sql"))}
    assert len(found) >= 5, f"only {len(found)} files in {FOLDER}: wrong place?"
    return found


@cache
def uses(path: Path) -> set[str]:
    """Return the names of statements that stand in a module as text of their own."""
    text = path.read_text(encoding="utf-8")
    return statements().keys() & set(re.findall(r'(?<![\w"])"(\w+)"(?![\w"])', text))


def sql_type(name: str) -> str:
    array = name.endswith("[]")
    base = name.removesuffix("[]")
    return SQL_NAMES.get(base, base) + ("[]" if array else "")


async def test_headers_are_what_the_server_says(database: str) -> None:
    """Every statement can be prepared, and takes and gives just what its header says, in that order. (S3-02)

    Their types are known: no connection of ours asks the catalog for one.
    """
    wrong: dict[str, object] = {}
    asked: list[str] = []
    async with connect(database, application_name="a new one") as connection:
        connection.add_query_logger(lambda record: asked.append(record.query))
        for name, header in statements().items():
            prepared = await connection.prepare(statement(name))
            takes = [sql_type(parameter.name) for parameter in prepared.get_parameters()]
            if takes != [kind for _, kind in header.takes]:
                wrong[f"{name} takes"] = takes
            gives = [(column.name, sql_type(column.type.name)) for column in prepared.get_attributes()]
            if gives != list(header.gives):
                wrong[f"{name} gives"] = gives

    assert ({}, []) == (wrong, asked)


def test_each_name_stands_once() -> None:
    """No two statements have the same name, over all files. (S3-02)"""
    names = [one.name for found in stated().values() for one in found]

    assert sorted(statements()) == sorted(names)


def test_every_head_is_complete() -> None:
    """Each block begins with name, takes and gives, in that order, and nowhere else; parameters are named once."""
    malformed = []
    for file in sorted(FOLDER.glob("*.sql")):
        found = file.read_text(encoding="utf-8").splitlines()
        heads = [number for number, line in enumerate(found) if re.match(r"--\s*(name|takes|gives)\b", line)]
        starts = [number for number, line in enumerate(found) if line.startswith(HEADS[0])]
        expected = [start + offset for start in starts for offset in range(3)]
        if heads != expected or found[0] != f"{HEADS[0]}{found[0].removeprefix(HEADS[0]).strip()}":
            malformed.append(place(file))
        for start in starts:
            block = found[start : start + 3]
            if not all(line.startswith(head) for line, head in zip(block, HEADS, strict=True)):
                malformed.append(place(file, start + 1))
    repeated = [
        one.name
        for found_here in stated().values()
        for one in found_here
        if len(set(dict(one.takes))) != len(one.takes) or len(set(dict(one.gives))) != len(one.gives)
    ]

    assert [] == malformed
    assert [] == repeated


# A finish that meets no partition makes it, on its own connection.
BORROWERS = {"upkeep": ("dated.py",), "locks": ("schema/migrate.py",)}


@pytest.mark.parametrize("stem", sorted(file.stem for file in FOLDER.glob("*.sql")))
def test_a_file_of_statements_belongs_to_the_module_of_its_name(stem: str) -> None:
    """The store's module of that name, or one that shares its connection, uses each statement; none is dead. (S3-02)"""
    names = {one.name for one in stated()[stem]}
    (module,) = (PACKAGE / "store").rglob(f"{stem}.py")

    assert set() == names - {name for path in package_files() for name in uses(path)}, "dead SQL"
    assert uses(module) & names
    strangers = {place(path) for path in (PACKAGE / "store").rglob("*.py") if path != module and uses(path) & names}
    assert strangers <= {place(PACKAGE / "store" / borrower) for borrower in BORROWERS.get(stem, ())}


SQL = re.compile(r"\s*(select|insert into|update|delete from|notify|listen|create|alter|drop|truncate)\s", re.I)


def test_sql_text_is_filled_in_at_one_place_only() -> None:
    """Placeholders are filled in by `statements.py` alone, with names that it checks: no user text in SQL. (S3-04)"""
    allowed = {
        "jobqueue/store/schema/migrate.py": "marks a migration as applied, by the name of our own file",
        "jobqueue/store/cloning.py": "makes and empties databases for tests, by names of its own",
        "jobqueue/store/connection/listener.py": "says what an idle connection is for, by a name of ours",
        "jobqueue/store/embedded/server.py": "makes its one database, whose name is a constant",
        "jobqueue/store/dialing/silence.py": "tells an administrator what to run, by a name that the server has quoted",
        "jobqueue/web/dashboard/showing/code.py": "shows people what they may write; it is never run",
    }
    found = {
        place(path)
        for path in package_files()
        for node in nodes(path, ast.JoinedStr, ast.BinOp)
        if SQL.match(first_text(node))
    }

    assert set(allowed) == found


def first_text(node: ast.expr) -> str:
    """Return the text that an f-string, a sum or a % begins with."""
    if isinstance(node, ast.JoinedStr):
        return first_text(node.values[0]) if node.values else ""
    if isinstance(node, ast.BinOp):
        return first_text(node.left)
    return str(node.value) if isinstance(node, ast.Constant) else ""


def test_every_name_of_an_object_is_qualified() -> None:
    """No statement relies on the search_path: tables and our functions carry the schema. (S3-04)"""
    ours = r"(?<![\w.\"])(job|job_archive|job_key|worker|queue|sleeper|migration|wake|defer|extend_archive)\b"
    bare = [
        f"{name}: {found[0]}"
        for name, one in statements().items()
        for found in re.finditer(rf"\b(?:from|into|update|join|perform)\s+{ours}", one.sql, re.IGNORECASE)
    ]

    assert [] == bare


SESSION_WIDE = re.compile(r"\b(pg_advisory_lock|pg_try_advisory_lock|listen|add_listener|set_type_codec|reset)\b", re.I)


def test_what_lasts_for_a_session_stands_on_connections_that_are_kept() -> None:
    """Session locks and LISTEN occur only where a connection is opened for that very purpose. (S3-30)"""
    allowed = {
        "jobqueue/store/connection/listener.py": "holds one connection for as long as it listens",
        "jobqueue/bench/raw_worker.py": "a program with two connections of its own",
    }
    found = {
        place(path)
        for path in package_files()
        for _ in matches(path, r"(pg_(try_)?advisory_lock\(|\.add_listener\(|set_type_codec\(|[\"']listen )")
    }
    in_statements = [name for name, one in statements().items() if SESSION_WIDE.search(one.sql)]

    assert [] == in_statements
    assert set(allowed) == found


def test_no_time_of_ours_is_stored() -> None:
    """S4-12: the store never asks this machine for the time of day; lengths of time go in, the server adds its own."""
    asked = r"datetime\.(now|utcnow|today)\(|\btime\.(time|time_ns|localtime|gmtime)\("
    found = [place(path, line) for path in (PACKAGE / "store").rglob("*.py") for line, _ in matches(path, asked)]

    assert [] == found
