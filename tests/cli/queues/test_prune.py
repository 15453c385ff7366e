"""`prune`: removes old finished jobs on demand, and says which; never without having been told so."""

import json

import pytest

from tests.cli.conftest import Shop
from tests.support.history import finished, keep, kept, leaf, leaves, utc_day
from tests.support.jobs.working import asked
from tests.support.programs.processes import CommandLine
from tests.support.programs.terminal import terminal

DAY = 86_400.0


def old_and_new(dsn: str) -> None:
    """Whole days that are too old, jobs of a queue that are, and jobs that are not."""
    finished(dsn, 3, seconds=4 * DAY)
    finished(dsn, 2, seconds=40 * DAY, state="dead")
    finished(dsn, 1, seconds=40 * DAY, state="cancelled")
    keep(dsn, "mail", completed=60.0)
    finished(dsn, 4, seconds=120.0, queue="mail")
    finished(dsn, 5, seconds=120.0)
    finished(dsn, 6, seconds=4 * DAY, state="dead")


async def test_a_dry_run_changes_nothing(cli: CommandLine, shop: Shop) -> None:
    """S4-99: it says by day and outcome what would go, as text and as JSON, and nothing has gone afterwards."""
    old_and_new(shop.dsn)
    before, days = kept(shop.dsn), leaves(shop.dsn, "completed")

    plain = await cli.run("prune", "shop", "--dry-run")
    document = json.loads((await cli.run("prune", "--dsn", shop.dsn, "--dry-run", "--json")).out)

    assert 0 == plain.code, plain.err
    assert [
        ["day", "outcome", "jobs", "how"],
        [str(utc_day(40)), "cancelled", "1", "whole", "day"],
        [str(utc_day(40)), "dead", "2", "whole", "day"],
        [str(utc_day(4)), "completed", "3", "whole", "day"],
    ] == [line.split() for line in plain.out.splitlines()][:4]
    assert ["completed", "4", "by", "age"] == plain.out.splitlines()[-1].split()[1:]
    assert "jobqueue: would remove 10 finished jobs\n" == plain.err
    assert document["dry_run"] is True
    assert {
        (str(utc_day(4)), "completed", 3, False, "whole day"),
        (str(utc_day(40)), "dead", 2, False, "whole day"),
    } < {(part["day"], part["state"], part["jobs"], part["about"], part["how"]) for part in document["removed"]}
    assert (before, days) == (kept(shop.dsn), leaves(shop.dsn, "completed"))


async def test_what_was_said_is_removed(cli: CommandLine, shop: Shop) -> None:
    """S4-99, S2-15: with --yes it removes just what the dry run named; unfinished jobs stay; then nothing is left."""
    old_and_new(shop.dsn)
    shop.defer("note", '{"n": 1}', "mail")
    dry = await cli.run("prune", "shop", "--dry-run", "--json")

    done = await cli.run("prune", "shop", "--yes", "--json")
    again = await cli.run("prune", "shop", "--yes")

    assert json.loads(dry.out) | {"dry_run": False} == json.loads(done.out)
    assert {("default", "completed"): 5, ("default", "dead"): 6} == kept(shop.dsn)
    assert leaf("completed", 4) not in leaves(shop.dsn, "completed")
    assert 1 == shop.states()["ready"]
    assert (0, "", "jobqueue: nothing is old enough to be removed\n") == (again.code, again.out, again.err)
    noted = "select array_agg(changed order by id) from jobqueue.audit where action = 'archive.prune' and via = 'cli'"
    assert [10, 0] == await asked(shop.dsn, noted)


async def test_results_that_a_bundle_needs_stay(cli: CommandLine, shop: Shop) -> None:
    """S4-87: whatever is removed by hand, what members of an unfinished bundle gave is read as before."""
    bundle = await asked(shop.dsn, "insert into jobqueue.bundle (name, open) values ('b', true) returning id")
    finished(shop.dsn, 3, seconds=4 * DAY, bundle=bundle)
    finished(shop.dsn, 2, seconds=120.0, bundle=bundle, queue="mail")

    for words in (("prune",), ("prune", "--completed", "1m", "--queue", "mail")):
        assert 0 == (await cli.run(*words, "--dsn", shop.dsn, "--yes")).code

    assert {} == kept(shop.dsn)
    results = "select array_agg(result::text::int order by result::text) from jobqueue.node where bundle_id = $1"
    assert [1, 1, 2, 2, 3] == await asked(shop.dsn, results, bundle)


async def test_other_ages_and_one_queue(cli: CommandLine, shop: Shop) -> None:
    """S4-99: an age removes what is older, of its outcome and queue alone, whatever the settings keep."""
    for queue in ("mail", "bulk"):
        for state in ("completed", "dead"):
            finished(shop.dsn, 2, seconds=3 * DAY, queue=queue, state=state)
            finished(shop.dsn, 3, seconds=7_200.0, queue=queue, state=state)
            finished(shop.dsn, 4, seconds=60.0, queue=queue, state=state)

    one = await cli.run("prune", "shop", "--yes", "--queue", "mail", "--other", "1d")
    assert {("mail", "dead"): 7, ("mail", "completed"): 9, ("bulk", "dead"): 9, ("bulk", "completed"): 9} == kept(
        shop.dsn
    ), one.err
    await cli.run("prune", "shop", "--yes", "--queue", "mail", "--completed", "1h")
    assert {("mail", "dead"): 7, ("mail", "completed"): 4, ("bulk", "dead"): 9, ("bulk", "completed"): 9} == kept(
        shop.dsn
    )
    every = await cli.run("prune", "shop", "--yes", "--completed", "60m", "--other", "90000")
    assert {("mail", "dead"): 7, ("mail", "completed"): 4, ("bulk", "dead"): 7, ("bulk", "completed"): 4} == kept(
        shop.dsn
    )
    assert "removed 7 finished jobs" in every.err
    assert leaf("other", 3) not in leaves(shop.dsn, "other")


async def test_the_settings_of_the_app_count(cli: CommandLine, shop: Shop) -> None:
    """S2-15: without an age it is the App's or the environment's `keep_completed` and `keep_other` that decide."""
    old_and_new(shop.dsn)

    answer = await cli.run("prune", "--dsn", shop.dsn, "--yes", JOBQUEUE_KEEP_COMPLETED=str(10 * DAY))
    wrong = await cli.run("prune", "--dsn", shop.dsn, "--yes", JOBQUEUE_KEEP_OTHER="0")

    assert 0 == answer.code
    assert {("default", "completed"): 8, ("default", "dead"): 6} == kept(shop.dsn)
    assert (1, "jobqueue: keep_other: must be above 0 seconds, and at most ten years\n") == (wrong.code, wrong.err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --yes, or --dry-run"),
        (("--json",), "give --yes, or --dry-run"),
        (("--yes", "--queue", "mail"), "--queue: say for which age"),
        (("--yes", "--completed", "soon"), "--completed: must be a length of time such as 90, 45s, 10m"),
        (("--yes", "--other", "0"), "--other: must be a length of time"),
        (("--yes", "--other", "-1d"), "--other: must be a length of time"),
    ],
)
async def test_wrong_usage_removes_nothing(cli: CommandLine, shop: Shop, words: tuple[str, ...], said: str) -> None:
    """S4-99: without --yes and without a terminal, or with an age that is none: one line, exit code 2."""
    old_and_new(shop.dsn)
    before = kept(shop.dsn)

    answer = await cli.run("prune", "shop", *words)

    assert (2, "") == (answer.code, answer.out)
    assert said in answer.err
    assert 1 == len(answer.err.splitlines())
    assert before == kept(shop.dsn)


@pytest.mark.parametrize(("typed", "code", "left"), [("n\n", 1, 21), ("\n", 1, 21), ("y\n", 0, 11), ("\x03", 130, 21)])
async def test_a_terminal_is_asked(cli: CommandLine, shop: Shop, typed: str, code: int, left: int) -> None:
    """S4-99: in a terminal it shows what would go, and asks; only a yes removes."""
    old_and_new(shop.dsn)
    with terminal(cli.folder, "prune", JOBQUEUE_DSN=shop.dsn) as running:
        await running.shows("remove 10 finished jobs for good? [y/N]")
        assert str(utc_day(40)) in running.text
        running.type(typed)
        assert code == await running.ends(), running.text

    assert left == sum(kept(shop.dsn).values())


async def test_estimates_are_marked(cli: CommandLine, shop: Shop) -> None:
    """S4-97: numbers that were not counted stand with a ~ in the table, and are named in the JSON document."""
    finished(shop.dsn, 60_000, queue="mail")
    finished(shop.dsn, 3, queue="mail", state="dead")

    plain = await cli.run("jobs", "counts", "shop")
    document = json.loads((await cli.run("jobs", "counts", "shop", "--json")).out)
    dry = await cli.run("prune", "shop", "--dry-run", "--queue", "mail", "--other", "1s")

    (row,) = [line.split() for line in plain.out.splitlines() if line.startswith("mail")]
    assert row[4].startswith("~")
    assert 60_000 == pytest.approx(int(row[4][1:]), rel=0.2)
    assert "3" == row[6]
    assert {"mail": ["completed"]} == document["estimated"]
    assert 60_000 == pytest.approx(document["queues"]["mail"]["completed"], rel=0.2)
    assert 0 == dry.code
