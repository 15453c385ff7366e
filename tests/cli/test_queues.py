"""`queues`: list, pause, resume."""

import json
from datetime import UTC, datetime

import pytest

from tests.cli.conftest import Shop
from tests.support.history import finished, kept
from tests.support.processes import CommandLine

pytestmark = pytest.mark.timeout(90)  # several processes, on a machine that may be busy


async def test_a_paused_queue_is_listed_and_rests(cli: CommandLine, shop: Shop) -> None:
    """S2-01, S4-97: numbers and pauses are listed; a paused queue runs nothing until it is resumed; without the
    user's module."""
    shop.defer("note", '{"n": 1}')
    shop.defer("wait", '{"seconds": 0}', "mail", delay=3600)
    paused = await cli.run("queues", "pause", "default", "--dsn", shop.dsn)
    timed = await cli.run("queues", "pause", "shop:app", "mail", "--for", "10m")

    listed = await cli.run("queues", "list", "--dsn", shop.dsn)
    document = {queue["queue"]: queue for queue in json.loads((await cli.run("queues", "list", "shop", "--json")).out)}

    assert (0, "queue default is paused until it is resumed; what runs goes on\n") == (paused.code, paused.out)
    assert 0 == timed.code
    rows = {line.split()[0]: line for line in listed.out.splitlines()}
    assert ["0", "1", "0"] == rows["default"].split()[1:4]
    assert ["1", "0", "0"] == rows["mail"].split()[1:4]
    assert "resumes in 10 min" in rows["mail"]
    assert (True, None) == (document["default"]["paused"], document["default"]["resume_at"])
    resumed = await cli.run("queues", "resume", "default", "shop")
    again = await cli.run("queues", "resume", "default", "shop")
    assert ("queue default is resumed\n", "queue default was not paused\n") == (resumed.out, again.out)
    assert 0 == (await cli.run("worker", "shop", "--burst", "--queues", "default")).code
    assert {"completed": 1, "scheduled": 1} == shop.states()


async def test_wrong_words_are_usage(cli: CommandLine, shop: Shop) -> None:
    """S2-01: one line that names the option; and a queue without jobs is asked about, in case its name is a slip."""
    for words, told in (
        (("mail", "--for", "1y"), "--for: must be a length of time"),
        (("mail", "--until", "2020-01-01T00:00Z"), "--until: this time is over"),
        (("mail", "--until", "2090-01-01T00:00Z", "--for", "1h"), "either --for or --until"),
        (("*",), "'*' means all queues"),
    ):
        answer = await cli.run("queues", "pause", *words, "--dsn", shop.dsn)
        assert 2 == answer.code
        assert told in answer.err
    assert "[]\n" == (await cli.run("queues", "list", "shop", "--json")).out
    assert "is that its name?" in (await cli.run("queues", "pause", "mial", "shop")).err


async def test_a_pause_ends_on_the_database_s_clock(cli: CommandLine, shop: Shop) -> None:
    """S2-01, S4-12: the clock of the machine where it is said does not count."""
    cli.module(
        "early",
        "from datetime import datetime, timedelta\n"
        "import jobqueue.cli.queues\n"
        "from shop import app\n"
        "class Early(datetime):\n"
        "    @classmethod\n"
        "    def now(cls, zone=None):\n"
        "        return datetime.now(zone) + timedelta(days=1)\n"
        "jobqueue.cli.queues.datetime = Early\n",
    )

    paused = await cli.run("queues", "pause", "early:app", "mail", "--for", "10m", "--json")
    listed = await cli.run("queues", "list", "early:app")

    end = datetime.fromisoformat(json.loads(paused.out)["until"])
    assert 590 < (end - datetime.now(UTC)).total_seconds() <= 600
    assert "for 24 h, resumes 24 h ago" in listed.out, "the other clock was not used"


async def test_a_queue_that_was_not_paused(cli: CommandLine, shop: Shop) -> None:
    """S2-44: a second resume says that there was nothing to do; a pause that is over is none."""
    await cli.run("queues", "pause", "mail", "--dsn", shop.dsn)

    first, second = [
        json.loads((await cli.run("queues", "resume", "mail", "--dsn", shop.dsn, "--json")).out) for _ in range(2)
    ]

    assert {"queue": "mail", "paused": False, "was_paused": True} == first
    assert not second["was_paused"]


async def test_what_a_queue_keeps(cli: CommandLine, shop: Shop) -> None:
    """S2-15: ages and numbers of a queue's finished jobs are said, counted by a dry run, and then obeyed by `prune`."""
    finished(shop.dsn, 8, seconds=100, queue="mail")
    finished(shop.dsn, 8, seconds=10, queue="mail")
    finished(shop.dsn, 8, seconds=400, queue="mail", state="dead")
    said = await cli.run("queues", "keep", "mail", "shop", "--other", "5m", "--most-completed", "5")
    would = await cli.run("prune", "--dsn", shop.dsn, "--dry-run")
    await cli.run("prune", "--dsn", shop.dsn, "--yes")

    assert (0, "other 5 min, most completed 5") == (said.code, said.out.partition(": ")[2].partition(";")[0])
    assert "would remove 16 finished jobs" in would.err
    assert {("mail", "completed"): 8} == kept(shop.dsn)
    reset = await cli.run("queues", "keep", "mail", "--dsn", shop.dsn)
    assert "finished jobs of queue mail stay as long as the workers' settings say\n" == reset.out
    for wrong, named in ((("--most-other", "0"), "--most-other: "), (("--completed", "soon"), "--completed: ")):
        refused = await cli.run("queues", "keep", "mail", "shop", *wrong)
        assert 2 == refused.code
        assert named in refused.err
        assert 1 == len(refused.err.splitlines())
