"""`queues`: list, pause, resume."""

import json
import re
from datetime import UTC, datetime, timedelta

from tests.cli.conftest import Shop
from tests.support.history import finished, kept
from tests.support.programs.processes import CommandLine
from tests.support.programs.terminal import terminal


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
    for name, told in (("mial", "did you mean mail?"), ("nothing-like-it", "is that its name?")):
        assert told in (await cli.run("queues", "pause", name, "shop")).err
    assert not json.loads((await cli.run("queues", "pause", "mailbox", "shop", "--json")).out)["known"]


async def test_a_pause_ends_on_the_database_s_clock(cli: CommandLine, shop: Shop) -> None:
    """S2-01, S4-12: the clock of the machine where it is said does not count."""
    cli.module(
        "early",
        "from datetime import datetime, timedelta\n"
        "import jobqueue.cli.queues.look\n"
        "from shop import app\n"
        "class Early(datetime):\n"
        "    @classmethod\n"
        "    def now(cls, zone=None):\n"
        "        return datetime.now(zone) + timedelta(days=1)\n"
        "jobqueue.cli.queues.look.datetime = Early\n",
    )

    before = datetime.now(UTC)
    paused = await cli.run("queues", "pause", "early:app", "mail", "--for", "10m", "--json")
    after = datetime.now(UTC)
    listed = await cli.run("queues", "list", "early:app")
    tomorrow = (datetime.now(UTC) + timedelta(hours=23)).isoformat()
    over = await cli.run("queues", "pause", "early:app", "mail", "--until", tomorrow)

    end = datetime.fromisoformat(json.loads(paused.out)["until"])
    assert before <= end - timedelta(minutes=10) <= after
    assert re.search(r"for \d+ s, resumes in \d+ min\n", listed.out)
    assert "--until: this time is over" in over.err, "the other clock was not used"


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
    said = await cli.run("queues", "keep", "mail", "shop", "--other", "5m", "--most-completed", "5", "--yes")
    would = await cli.run("prune", "--dsn", shop.dsn, "--dry-run")
    await cli.run("prune", "--dsn", shop.dsn, "--yes")

    assert (0, "other 5 min, most completed 5") == (said.code, said.out.partition(": ")[2].partition(";")[0])
    assert "would remove 16 finished jobs" in would.err
    assert [("completed", "8", "by number"), ("dead", "8", "by age")] == sorted(
        (outcome, jobs, " ".join(how)) for _, outcome, jobs, *how in map(str.split, would.out.splitlines()[1:])
    )
    assert {("mail", "completed"): 8} == kept(shop.dsn)
    slip = await cli.run("queues", "keep", "mial", "shop", "--other", "5m", "--yes")
    assert "did you mean mail?" in slip.err
    assert "mean" not in said.err


async def test_what_a_queue_keeps_is_shown(cli: CommandLine, shop: Shop) -> None:
    """S2-15: a look changes nothing, in text and as JSON; only `--clear` takes it back."""
    nothing = await cli.run("queues", "keep", "mail", "--dsn", shop.dsn)
    await cli.run("queues", "keep", "mail", "--dsn", shop.dsn, "--completed", "2h", "--most-other", "7", "--yes")
    limits = {"completed": 7200.0, "other": None, "most_completed": None, "most_other": 7}

    for _ in range(2):
        shown = await cli.run("queues", "keep", "mail", "shop")
        assert (0, "") == (shown.code, shown.err)
        assert shown.out.startswith("finished jobs of queue mail stay: completed 2 h, most other 7; workers")
    document = json.loads((await cli.run("queues", "keep", "shop:app", "mail", "--json")).out)
    listed = json.loads((await cli.run("queues", "list", "shop", "--json")).out)
    assert {"queue": "mail", **limits} == document
    assert [("mail", limits)] == [(queue["queue"], queue["keep"]) for queue in listed]
    cleared = await cli.run("queues", "keep", "mail", "--dsn", shop.dsn, "--clear")
    assert (0, "finished jobs of queue mail stay as long as the workers' settings say\n") == (cleared.code, cleared.out)
    assert cleared.out == nothing.out == (await cli.run("queues", "keep", "mail", "shop")).out


async def test_limits_are_not_set_unasked(cli: CommandLine, shop: Shop) -> None:
    """S4-99: they have jobs removed for good: a terminal is asked, without one it takes --yes; wrong words
    are usage."""
    finished(shop.dsn, 3, queue="mail")
    for words, told in (
        (("--most-completed", "1"), "give --yes"),
        (("--most-other", "0"), "--most-other: must be a whole number"),
        (("--most-other", str(2**60), "--yes"), "--most-other: must be a whole number"),
        (("--completed", "soon"), "--completed: must be a length of time"),
        (("--clear", "--other", "1h"), "--clear: "),
    ):
        refused = await cli.run("queues", "keep", "mail", "shop", *words)
        assert (2, "", 1) == (refused.code, refused.out, len(refused.err.splitlines()))
        assert told in refused.err
    for typed, code, left in (("n\n", 1, None), ("y\n", 0, 1)):
        with terminal(cli.folder, "queues", "keep", "mail", "--most-completed", "1", JOBQUEUE_DSN=shop.dsn) as running:
            await running.shows(
                "queue mail will keep most completed 1: have workers remove other finished jobs for good?"
            )
            running.type(typed)
            assert code == await running.ends(), running.text
        shown = json.loads((await cli.run("queues", "keep", "mail", "shop", "--json")).out)
        assert left == shown["most_completed"]


async def test_an_age_beyond_the_setting_is_told(cli: CommandLine, shop: Shop) -> None:
    """S2-15: it is the setting that drops the day; one line says so, and names both. --help says it too."""
    words = ("queues", "keep", "mail", "--dsn", shop.dsn, "--yes", "--completed", "30d", "--other", "20d")
    told = await cli.run(*words)
    longer = await cli.run(*words, JOBQUEUE_KEEP_COMPLETED=str(60 * 86_400))

    assert 0 == told.code
    assert ["--completed: has no effect, as keep_completed is 24 h"] == [
        line.removeprefix("jobqueue: ").partition(": workers")[0] for line in told.err.splitlines()
    ]
    assert (0, "") == (longer.code, longer.err)
    help = " ".join((await cli.run("queues", "keep", "--help")).out.split())
    assert "An age can only be shorter than keep_completed and keep_other" in help
