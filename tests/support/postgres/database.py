"""A database of its own for each test: cloned from the migrated template, cleaned or dropped afterwards."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import chain, count
from os import getpid
from typing import LiteralString

import psycopg
from psycopg import sql

from tests.support.patience import PATIENCE
from tests.support.postgres.kept import NAME as KEPT
from tests.support.postgres.server import Server, database_dsn


class _Used:
    """A clone, and the connection that cleans it: that one knows the tables already."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None

    def clean(self) -> bool:
        """Make it as new, and say whether it is."""
        with suppress(psycopg.Error):
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self.dsn, autocommit=True, application_name=KEPT, options=f"-c statement_timeout={PATIENCE:.0f}s"
                )
            (clean,) = self._connection.execute("select jobqueue_tests.clean()").fetchone() or (False,)
            return bool(clean)
        return False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Databases:
    """Makes, clones and drops databases over one connection that lives as long as the test process."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._numbers = count(1)
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._cleaned: dict[str, list[_Used]] = defaultdict(list)

    @contextmanager
    def as_new(self, template: str, fit: Callable[[], bool]) -> Iterator[str]:
        """Give the DSN of a clone: one that was used and cleaned, if there is one, since that costs a fifth less.

        Afterwards it is cleaned for the next, if it is `fit` for that, and if nothing but rows has changed.
        """
        used = self._cleaned[template].pop() if self._cleaned[template] else _Used(self._create(template))
        kept = False
        try:
            yield used.dsn
            kept = fit() and used.clean()
        finally:
            if kept:
                self._cleaned[template].append(used)
            else:
                used.close()
                self._drop(name_of(used.dsn))

    @contextmanager
    def temporary(self, template: str | None = None) -> Iterator[str]:
        """Give the DSN of a new database, empty or a clone; drop it afterwards, whoever is still connected."""
        dsn = self._create(template)
        try:
            yield dsn
        finally:
            self._drop(name_of(dsn))

    def _create(self, template: str | None, name: str | None = None) -> str:
        name = name or f"{self.server.run}_{getpid()}_{next(self._numbers)}"
        self._execute(sql.SQL("create database {}").format(sql.Identifier(name)) + self._copy_of(template))
        return database_dsn(self.server.dsn, name)

    def _drop(self, name: str) -> None:
        self._execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    @contextmanager
    def stocked(self, template: str, fill: LiteralString) -> Iterator[str]:
        """Give the name of a clone that was filled so, to be cloned again inside the block."""
        with self.temporary(template) as dsn:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(fill)
            yield name_of(dsn)

    def filled(self, template: str, fill: LiteralString) -> str:
        """The name of a clone that was filled so, to be cloned again: made by whoever asks first, kept till the end."""
        name = f"{template}_{sha256(fill.encode()).hexdigest()[:8]}"
        with psycopg.connect(self.server.dsn, autocommit=True) as turn:
            turn.execute("select pg_advisory_lock(hashtext(%s))", [name])  # until the end of the block
            if not self._execute("select from pg_database where datname = %s and not datallowconn", name).rowcount:
                self._fill(name, template, fill)
        return name

    def _fill(self, name: str, template: str, fill: LiteralString) -> None:
        self._drop(name)  # of one who did not finish
        with psycopg.connect(self._create(template, name), autocommit=True) as connection:
            connection.execute(fill)
        self._execute(sql.SQL("alter database {} allow_connections false").format(sql.Identifier(name)))

    def backends(self, dsn: str) -> Callable[[], list[str]]:
        """Return what lists the connections to the database of this DSN, one line each."""
        name = name_of(dsn)
        return lambda: [
            f"backend {pid} of {application!r}, {state}: {query}"
            for pid, application, state, query in self._execute(_BACKENDS, name, KEPT).fetchall()
        ]

    def close(self) -> None:
        for used in chain(*self._cleaned.values()):
            used.close()
        if self._connection is not None:
            self._connection.close()

    def _copy_of(self, template: str | None) -> sql.Composable:
        # Copying whole files costs a third of writing each page to the log, as PostgreSQL does since version 15.
        copying = sql.SQL(" strategy file_copy" if self._connected().info.server_version >= 150_000 else "")
        return sql.SQL(" template {}").format(sql.Identifier(template or "template1")) + copying

    def _execute(self, statement: sql.Composed | str, *values: object) -> psycopg.Cursor[tuple[object, ...]]:
        """Run on the kept connection; once more on a new one, since a test may cut every connection there is."""
        try:
            return self._connected().execute(statement, values or None)
        except psycopg.OperationalError:
            if self._connection is None or not self._connection.closed:
                raise
            return self._connected().execute(statement, values or None)

    def _connected(self) -> psycopg.Connection[tuple[object, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.server.dsn, autocommit=True, application_name="jobqueue tests")
        return self._connection


def name_of(dsn: str) -> str:
    """The name of the database that a DSN of ours leads to."""
    return dsn.partition("?")[0].rpartition("/")[2]


_BACKENDS = """
select pid, application_name, coalesce(state, backend_type), left(query, 100)
from pg_stat_activity
where datname = %s and backend_type = 'client backend' and application_name <> %s
order by pid
"""
