"""`migrate`: status, up, and the SQL for those who apply it themselves."""

import json
import re

import psycopg

from tests.support.programs.processes import CommandLine


async def test_up_applies_what_is_missing_once(cli: CommandLine, empty_database: str) -> None:
    """`up` names each migration that it applies; a second time there is nothing to do."""
    first = await cli.run("migrate", "up", "--dsn", empty_database)
    second = await cli.run("migrate", "up", "--dsn", empty_database)

    assert 0 == first.code, first.err
    assert "applied 0001_pre_jobs" in first.out.splitlines()
    assert 0 == second.code, second.err
    assert "nothing to do: schema jobqueue is up to date\n" == second.out


async def test_status_says_what_is_missing(cli: CommandLine, empty_database: str) -> None:
    """`status` lists each migration, and its exit code says whether one is missing."""
    cli.module("shop", f"from jobqueue import App\napp = App({empty_database!r}, schema='shop')\n")

    before = await cli.run("migrate", "status", "shop")
    await cli.run("migrate", "up", "shop")
    after = await cli.run("migrate", "status", "shop:app")
    elsewhere = await cli.run("migrate", "status", "shop", "--schema", "jobqueue", "--json")

    assert 1 == before.code
    assert ["0001_pre_jobs", "missing"] == before.out.splitlines()[1].split()
    assert 0 == after.code
    assert ["0001_pre_jobs", "applied"] == after.out.splitlines()[1].split()
    assert 1 == elsewhere.code
    assert "jobqueue" == json.loads(elsewhere.out)["schema"]
    assert json.loads(elsewhere.out)["whole"] is False


async def test_json_documents(cli: CommandLine, empty_database: str) -> None:
    """With --json both verbs write one document."""
    up = await cli.run("migrate", "up", "--dsn", empty_database, "--json")
    status = await cli.run("migrate", "status", "--json", JOBQUEUE_DSN=empty_database)

    names = json.loads(up.out)["applied"]
    assert "0001_pre_jobs" == names[0]
    assert {"schema": "jobqueue", "applied": names} == json.loads(up.out)
    assert {
        "schema": "jobqueue",
        "whole": True,
        "migrations": [{"name": name, "applied": True, "known": True} for name in names],
    } == json.loads(status.out)


async def test_the_sql_does_the_same(cli: CommandLine, empty_database: str) -> None:
    """`sql` touches no database; what it writes makes a whole schema when somebody else runs it."""
    script = await cli.run("migrate", "sql", "--schema", "shop")
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(script.out.encode())

    status = await cli.run("migrate", "status", "--dsn", empty_database, "--schema", "shop")

    assert 0 == script.code, script.err
    assert 0 == status.code, status.out


async def test_a_schema_that_is_too_new_is_one_line(cli: CommandLine, database: str) -> None:
    """A breaking migration of a later version is shown, and refused in one line."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("insert into jobqueue.migration (name) values ('9999_post_future')")

    status = await cli.run("migrate", "status", "--dsn", database)
    up = await cli.run("migrate", "up", "--dsn", database)

    assert 1 == status.code
    assert re.search("9999_post_future +applied by a later version of jobqueue", status.out)
    for answer in (status, up):
        assert "upgrade jobqueue" in answer.err
        assert 1 == len(answer.err.splitlines())


async def test_a_bad_schema_name_is_refused_before_anything_is_touched(cli: CommandLine) -> None:
    """A schema name that is no plain name is one line and exit code 2."""
    answer = await cli.run("migrate", "up", "--dsn", "postgresql://nowhere.invalid/x", "--schema", "Bad; drop")

    assert 2 == answer.code
    assert "--schema: must be" in answer.err
    assert 1 == len(answer.err.splitlines())
