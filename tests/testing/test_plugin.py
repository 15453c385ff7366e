"""The fixtures of the plugin, in a pytest of their own."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import NullPool, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from jobqueue.testing import plugin
from tests.examples.kit import pytest_in
from tests.support.jobs.store import connect

SHOP = """
from jobqueue import App

app = App("postgresql://postgres@127.0.0.1:1/none", schema="{schema}")


@app.task
async def note(text: str) -> str:
    return text
"""
TESTS = """
import asyncio, os
import asyncpg
import pytest
from shop import app, note


@pytest.mark.parametrize("number", range(4))
async def test_nothing_is_left_by_others(number, jobqueue_app, jobqueue_database):
    assert jobqueue_app is app
    assert not await app.jobs.list()
    await note.defer("a")
    await note.options(delay=60, unique="k").defer("b")
    async with app.bundle("c") as b:
        b.add(note.job("d"))
    await app.run_until_idle()
    assert 3 == len(await app.jobs.list())
    with open(os.environ["TOLD"], "a") as told:
        told.write(jobqueue_database + "\\n")


def test_without_a_loop(jobqueue_app):
    async def counted():
        await note.defer("a")
        try:
            return len(await app.jobs.list())
        finally:
            await app.close()

    assert 1 == asyncio.run(counted())
"""
INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"


def project(folder: Path, ini: str, schema: str = "jobqueue") -> None:
    """An application with tests."""
    (folder / "shop.py").write_text(SHOP.format(schema=schema))
    (folder / "test_shop.py").write_text(TESTS)
    (folder / "pytest.ini").write_text(INI + ini)


async def databases(dsn: str) -> set[str]:
    """Those of the server, other tests' too."""
    async with connect(dsn) as connection:
        return {row[0] for row in await connection.fetch("select datname from pg_database")}


async def test_a_database_for_each_process_of_the_run(database: str, tmp_path: Path) -> None:
    """Each has its own clone, which is dropped at the end; no test sees what another has left."""
    project(tmp_path, "jobqueue_app = shop:app\n")
    told = tmp_path / "told"
    answer = await pytest_in(tmp_path, "-n", "2", "--dist", "each", dsn=database, TOLD=str(told))
    assert (0, 10) == (answer.code, answer.passed), answer.out
    made = {urlsplit(dsn).path.removeprefix("/") for dsn in told.read_text().splitlines()}
    assert 2 == len(made)
    assert made.isdisjoint(await databases(database))


async def test_another_schema_and_the_default_name(database: str, tmp_path: Path) -> None:
    """The App's own schema is migrated; its attribute is `app` unless it is named."""
    project(tmp_path, "jobqueue_app = shop\n", schema="shop")
    answer = await pytest_in(tmp_path, "-k", "loop", dsn=database, TOLD=str(tmp_path / "told"))
    assert (0, 1) == (answer.code, answer.passed), answer.out


async def test_a_dsn_on_a_socket_is_for_sqlalchemy_too(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scheme is all that has to be changed. Who has told the driver to want TLS must not have it on a socket."""
    if "host=/" not in database:
        pytest.skip("the server of these tests is on no socket")
    monkeypatch.setenv("PGSSLMODE", "require")
    assert database == plugin._for_all_drivers(database)
    monkeypatch.delenv("PGSSLMODE")
    elsewhere = "postgresql://db.internal/shop?target=any&sslmode=disable"
    assert elsewhere == plugin._for_all_drivers(elsewhere)
    url = make_url(plugin._for_all_drivers(database)).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        assert 1 == (await connection.execute(text("select 1"))).scalar()
    await engine.dispose()


async def test_whoever_names_no_app_is_told_how(database: str, tmp_path: Path) -> None:
    """The error says what to write and where."""
    project(tmp_path, "")
    answer = await pytest_in(tmp_path, "-k", "loop", dsn=database)
    assert 1 == answer.code
    assert "name your App in the configuration of pytest, `jobqueue_app = shop:app`" in answer.out


def test_importing_the_kit_loads_no_pytest() -> None:
    """Only the plugin's file needs it; and that loads neither the App nor the driver."""
    code = (
        "import json, sys\n"
        "import jobqueue.testing, jobqueue\n"
        "jobqueue.testing.Kit, jobqueue.App\n"
        "before = 'pytest' in sys.modules\n"
        "print(json.dumps(before))"
    )
    light = (
        "import json, sys\n"
        "import jobqueue.testing.plugin\n"
        "print(json.dumps([name for name in ('asyncpg', 'pydantic', 'jobqueue.app') if name in sys.modules]))"
    )
    answers = [
        json.loads(subprocess.run([sys.executable, "-c", each], capture_output=True, text=True, check=True).stdout)
        for each in (code, light)
    ]
    assert [False, []] == answers
