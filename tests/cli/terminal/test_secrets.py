"""A password never shows anywhere: not in what works, not in what fails, not in a traceback."""

from collections.abc import Iterator
from urllib.parse import quote, urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tests.support.programs.processes import Answer, CommandLine

SECRET = "Ge/h€im"
VERBS = (
    ("info",),
    ("jobs", "counts", "--json"),
    ("jobs", "show", "01a20466-0396-7560-92ef-adfe1f5cacd8"),
    ("migrate", "up"),
)
FAILING = {
    "refused": "postgresql://me:{secret}@127.0.0.1:1/shop",
    "unknown host": "postgresql://me:{secret}@nowhere.invalid/shop",
    "no socket": "postgresql:///shop?host=/nowhere&user=me&password={secret}",
    "not quoted": "postgresql://me:{plain}@127.0.0.1:1/shop",
    "no scheme": "me:{secret}@127.0.0.1:1/shop",
    "other scheme": "mysql://me:{secret}@127.0.0.1:1/shop",
    "in the query": "postgresql://127.0.0.1:1/shop?user=me&password={secret}",
}


def assert_silent(answer: Answer) -> None:
    """Neither the password nor a part of it, as it is or as it is written in a DSN."""
    for text in (answer.out, answer.err):
        for secret in (SECRET, quote(SECRET, safe=""), "h€im", quote("h€im")):
            assert secret not in text, text


@pytest.fixture
def login(database: str) -> Iterator[str]:
    """The DSN of the test's database for a user who has a password."""
    parts = urlsplit(database)
    name = f"cli_{uuid4().hex[:12]}"
    with psycopg.connect(database, autocommit=True) as connection:
        role = sql.Identifier(name)
        connection.execute(
            sql.SQL("create role {} login password {} in role {}").format(
                role, sql.Literal(SECRET), sql.Identifier(connection.info.user)
            )
        )
        kept = [part for part in parts.query.split("&") if not part.startswith(("user=", "password="))]
        host = parts.netloc.rpartition("@")[2]
        yield f"postgresql://{name}:{quote(SECRET, safe='')}@{host}{parts.path}?{'&'.join(kept)}"
        connection.execute(sql.SQL("drop role {}").format(role))


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
async def test_no_password_in_what_works(cli: CommandLine, login: str, words: tuple[str, ...]) -> None:
    """Each verb with --dsn works with the password and does not show it."""
    answer = await cli.run(*words, "--dsn", login)

    assert answer.code == (1 if "show" in words else 0), answer.err
    assert_silent(answer)


async def test_no_password_in_the_worker_s_banner(cli: CommandLine, login: str) -> None:
    """The worker shows its database with the password masked."""
    cli.module("shop", f"from jobqueue import App\napp = App({login!r})\n@app.task\nasync def t() -> None: ...\n")

    answer = await cli.run("worker", "shop", "--burst")

    assert 0 == answer.code, answer.err
    assert ":***@" in answer.err
    assert_silent(answer)


@pytest.mark.parametrize("dsn", FAILING.values(), ids=FAILING.keys())
async def test_no_password_in_what_fails(cli: CommandLine, dsn: str) -> None:
    """A database that cannot be reached, or a DSN that cannot be read, is one line without the password."""
    dsn = dsn.format(secret=quote(SECRET, safe=""), plain=SECRET)
    cli.module("shop", f"from jobqueue import App\napp = App({dsn!r})\n@app.task\nasync def t() -> None: ...\n")

    for answer in (await cli.run("jobs", "list", JOBQUEUE_DSN=dsn), await cli.run("worker", "shop")):
        assert 1 == answer.code
        assert 1 == len(answer.err.splitlines()), answer.err
        assert_silent(answer)


async def test_no_password_in_wrong_usage(cli: CommandLine) -> None:
    """A DSN in the wrong place is not repeated."""
    dsn = f"postgresql://me:{quote(SECRET, safe='')}@host/shop"

    for words in ((dsn,), ("info", dsn), ("jobs", "list", "--limit", dsn)):
        answer = await cli.run(*words)
        assert 2 == answer.code
        assert_silent(answer)


async def test_no_password_in_a_traceback(cli: CommandLine) -> None:
    """A traceback shows the user's own lines, but not the password in one of them."""
    dsn = f"postgresql://me:{quote(SECRET, safe='')}@host/shop"
    cli.module(
        "broken", f"def connect(dsn, password=None): raise OSError(dsn)\nconnect({dsn!r}, password={SECRET!r})\n"
    )

    answer = await cli.run("worker", "broken")

    assert 1 == answer.code
    assert "OSError: postgresql://me:***@host/shop" in answer.err
    assert_silent(answer)
