"""`info`: everything about an installation in one look."""

import json

from tests.cli.conftest import Shop
from tests.support.jobs.working import asked
from tests.support.programs.processes import CommandLine


async def test_info_shows_what_is_here(cli: CommandLine, shop: Shop) -> None:
    """Version, database, server, schema, workers, jobs and settings; a setting that was changed is marked."""
    shop.defer("wait", '{"seconds": 600}', "mail")
    made = "insert into jobqueue.bundle (name, dead, finished_at) values ('a', 1, now()), ('b', 0, null) returning 1"
    await asked(shop.dsn, made)
    worker = cli.start("worker", "shop", "--concurrency", "3")
    await worker.says("waiting")

    plain = await cli.run("info", "shop", JOBQUEUE_POLL="7", JOBQUEUE_POOLER="transaction")
    document = json.loads((await cli.run("info", "--dsn", shop.dsn, "--json")).out)

    assert 0 == plain.code, plain.err
    for words in ("jobqueue 0.1.0 on Python 3.", "app         shop", "schema      jobqueue", "* poll              7"):
        assert words in plain.out
    assert {"version", "python", "app", "database", "server", "schema", "migrations", "jobs", "settings"} < set(
        document
    )
    assert "\n  pooler      single statements have no time limit; alter role " in plain.out, (
        "the role has none, which counts behind such a pooler"
    )
    assert document["remedy"] is None, "no pooler was named"
    assert [] == document["migrations"]["missing"]
    assert [("shop", 3, ["*"])] == [(one["app"], one["concurrency"], one["queues"]) for one in document["workers"]]
    assert {"mail": {"running": 1}} == document["jobs"]["queues"]
    assert "bundles\n  1 unfinished, 1 finished, 1 with errors\n" in plain.out
    assert {"unfinished": 1, "finished": 1, "with_errors": 1, "estimated": []} == document["bundles"]
    assert 5.0 == document["settings"]["poll"]
    settings = [line.split() for line in plain.out.partition("\nsettings ")[2].splitlines()[1:]]
    assert [*document["settings"]] == [words[-2] for words in settings], "each with its value beside it"


async def test_info_tells_what_comes_next(cli: CommandLine, shop: Shop) -> None:
    """The five schedules that fire next, the nearest first; where there are none there is nothing of them."""
    none = await cli.run("info", "--dsn", shop.dsn)
    made = (
        "insert into jobqueue.schedule (name, source, task, queue, args, options, cron, tz, missed, overlap, next_at)"
        " select 's' || n, 'stored', 'note', 'default', '{}', '{}', '0 0 * * *', 'UTC', 'skip', 'allow',"
        " now() + n * interval '1 h' from generate_series(3, 9) n returning 1"
    )
    await asked(shop.dsn, made)
    plain = await cli.run("info", "--dsn", shop.dsn)
    document = json.loads((await cli.run("info", "--dsn", shop.dsn, "--json")).out)

    assert "schedules" not in none.out
    _, _, part = plain.out.partition("\nschedules, next\n")
    rows = [line.split() for line in part.partition("\n\n")[0].splitlines()]
    assert [["schedule", "next", "task"], *([f"s{n}", "in", f"{n}", "h", "note"] for n in range(3, 8))] == rows
    assert [f"s{n}" for n in range(3, 8)] == [firing["name"] for firing in document["firings"]]


async def test_info_without_a_schema(cli: CommandLine, empty_database: str) -> None:
    """Where the schema is missing info says so, and which command makes it, instead of failing."""
    plain = await cli.run("info", "--dsn", empty_database)
    document = json.loads((await cli.run("info", "--dsn", empty_database, "--json")).out)

    assert 0 == plain.code
    assert f"{document['migrations']['missing'][-1]}; run `python -m jobqueue migrate up`" in plain.out
    assert "0001_pre_jobs" == document["migrations"]["missing"][0]
    assert (None, None) == (document["workers"], document["jobs"])
