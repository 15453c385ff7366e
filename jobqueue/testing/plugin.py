"""The fixtures of pytest, by the entry point `pytest11`. Nothing happens unless a test asks for one.

pytest loads this file wherever jobqueue is installed, so what takes time is loaded by the fixtures.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pkgutil import resolve_name
from typing import Any

import pytest

_WHICH = "jobqueue_app"
_NAME_IT = "name your App in the configuration of pytest, `jobqueue_app = shop:app`, or override `jobqueue_target`"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The App that `jobqueue_app` leads to a database for tests."""
    parser.addini(_WHICH, "your App for the fixture jobqueue_app, as module:attribute", default="")


@pytest.fixture(scope="session")
def jobqueue_database() -> Iterator[str]:
    """The DSN of a migrated database of this test process: a clone, made once and dropped at the end.

    On the server of `JOBQUEUE_TEST_DSN`, whose role may create databases, or on the embedded one.
    """
    cloning, named = import_module("jobqueue.store.cloning"), os.environ.get("JOBQUEUE_TEST_DSN")
    with _beside() as beside, beside.wrap_async_context_manager(cloning.clone_of(named)) as dsn:
        yield _for_all_drivers(dsn)


@pytest.fixture
def jobqueue_target(pytestconfig: pytest.Config) -> Any:
    """Your App: the one that the configuration names. Override this fixture to name another."""
    said = pytestconfig.getini(_WHICH)
    if not said:
        raise pytest.UsageError(f"jobqueue_app: {_NAME_IT}")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    return resolve_name(said if ":" in said else f"{said}:app")


@pytest.fixture
def jobqueue_app(jobqueue_target: Any, jobqueue_database: str) -> Iterator[Any]:
    """Your App on `jobqueue_database`. What the test leaves there is removed; your own tables are yours to clean."""
    cloning, migrating = import_module("jobqueue.store.cloning"), import_module("jobqueue.store.schema.migrate")
    if not hasattr(jobqueue_target, "override"):
        raise pytest.UsageError(f"jobqueue_app: {type(jobqueue_target).__name__} is no App; {_NAME_IT}")
    schema = jobqueue_target.schema
    with _beside() as beside:
        beside.call(migrating.migrate, jobqueue_database, schema)
        with jobqueue_target.override(dsn=jobqueue_database):
            yield jobqueue_target
        beside.call(cloning.empty, jobqueue_database, schema)


def _for_all_drivers(dsn: str) -> str:
    """The embedded server's, without what SQLAlchemy would hand on to asyncpg, which knows it in a DSN alone."""
    if "host=/" not in dsn or "PGSSLMODE" in os.environ:  # which asyncpg would follow; else there is no TLS on a socket
        return dsn
    return dsn.removesuffix("&sslmode=disable")


@contextmanager
def _beside() -> Iterator[Any]:
    """An event loop in a thread: a fixture must not care which kind of loop, or none, its tests have."""
    with import_module("anyio.from_thread").start_blocking_portal() as portal:
        yield portal
