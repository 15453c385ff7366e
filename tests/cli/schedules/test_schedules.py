"""`schedules`: list them, show one, and steer it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobqueue import App, Schedule
from tests.cli.conftest import Shop
from tests.support.jobs.working import asked, new_app
from tests.support.programs.processes import CommandLine
from tests.support.programs.terminal import terminal

NEVER = "0 0 29 2 *"
ODD = "x\x1b[31my\nz"


async def note(n: int, text: str) -> int:
    return n


@asynccontextmanager
async def app_on(dsn: str) -> AsyncIterator[App]:
    """An app with a task `note`, and no worker."""
    app = new_app(dsn)
    app.task(note)
    async with app:
        yield app


async def put(app: App, name: str, cron: str = NEVER, **options: Any) -> Schedule:
    """Put a schedule of `note`."""
    task = app.registry.find("note")
    assert task is not None
    return await app.schedules.put(name, task.options(priority=5).job(7, "marker-4f1b8"), cron, **options)


async def write(dsn: str, name: str, change: str) -> None:
    """Change the row of a schedule past the library."""
    assert 1 == await asked(dsn, f"update jobqueue.schedule set {change} where name = $1 returning 1", name)


async def one_of_each(app: App, dsn: str) -> None:
    """A schedule in each state."""
    for name in ("active", "broken", "ended", "late", "paused", "resting", "undeclared"):
        await put(app, name, "0 7 * * *", tz="Europe/Vienna")
    await app.schedules.pause("paused")
    await app.schedules.pause("resting", datetime.now(UTC) + timedelta(days=9))
    await write(dsn, "broken", "broken = 'InvalidOption: cron', next_at = null")
    await write(dsn, "ended", "next_at = null, ends_at = '2020-01-01'")
    await write(dsn, "late", "next_at = now() - interval '10 min'")
    await write(dsn, "undeclared", "source = 'code', seen_at = now() - interval '3 days', next_at = now()")


async def test_all_states_are_listed(cli: CommandLine, shop: Shop) -> None:
    """Name, state, when it comes next, cron with its zone and task, by name; as JSON, of one source, and by pages."""
    empty = await cli.run("schedules", "list", "--dsn", shop.dsn)
    async with app_on(shop.dsn) as app:
        await one_of_each(app, shop.dsn)
    listed = await cli.run("schedules", "list", "shop:app")
    stored = json.loads((await cli.run("schedules", "list", "shop", "--source", "stored", "--json")).out)
    code = json.loads((await cli.run("schedules", "list", "shop", "--source", "code", "--json")).out)
    page = await cli.run("schedules", "list", "shop", "--limit", "2", "--after", "broken", "--json")

    assert (0, "") == (empty.code, empty.out)
    assert "no schedules" in empty.err
    rows = {line.split()[0]: line for line in listed.out.splitlines()[1:]}
    assert ["active", "broken", "ended", "late", "paused", "resting", "undeclared"] == list(rows)
    states = ["active", "broken", "ended", "active", "paused", "paused", "undeclared"]
    assert states == [line.split()[1] for line in rows.values()]
    assert all(line.endswith("0 7 * * * Europe/Vienna  note") for line in rows.values())
    assert "  10 min late  " in rows["late"]
    assert "  in " in rows["active"]
    assert ["in"] == rows["resting"].split()[2:3]
    assert [["0", "7"]] * 4 == [rows[name].split()[2:4] for name in ("broken", "ended", "paused", "undeclared")]
    assert ["undeclared"] == [each["name"] for each in code]
    assert [name for name in rows if name != "undeclared"] == [each["name"] for each in stored]
    assert ("Europe/Vienna", "active", 5) == (stored[0]["tz"], stored[0]["state"], stored[0]["options"]["priority"])
    assert ["ended", "late"] == [each["name"] for each in json.loads(page.out)]
    assert "marker" not in listed.out + page.out, "arguments are the user's data"


async def test_it_fits_a_terminal(cli: CommandLine, shop: Shop) -> None:
    """In 80 columns no line but that of a longer name is longer; what cannot be printed is made visible."""
    long = "a" * 100
    async with app_on(shop.dsn) as app:
        await one_of_each(app, shop.dsn)
        await put(app, long, "0 0 1,2,3,4,5,6,7,8 1,2,3,4 *", tz="America/Argentina/ComodRivadavia")
    await asked(shop.dsn, "update jobqueue.schedule set name = $1 where name = 'ended' returning 1", ODD)
    for words in (("list",), ("show", "paused"), ("show", "resting"), ("show", "late"), ("next", "active")):
        with terminal(cli.folder, "schedules", *words, JOBQUEUE_DSN=shop.dsn) as running:
            assert 0 == await running.ends(), running.text
            lines = running.text.splitlines()
        assert [] == [line for line in lines if len(line) > 80 and line != long]
        assert (words != ("list",)) or (long in lines and any(r"x\x1b[31my\nz" in line for line in lines))


async def test_one_is_shown(cli: CommandLine, shop: Shop) -> None:
    """All that is known, its next times in UTC and its own zone, its last jobs; arguments only on demand."""
    async with app_on(shop.dsn) as app:
        await put(app, "digest", "30 8 * * *", tz="Asia/Tokyo", missed="once", overlap="skip", jitter=90)
        await app.schedules.backfill("digest", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))
        by_hand = await app.schedules.trigger("digest")
    shown = await cli.run("schedules", "show", "digest", "--dsn", shop.dsn)
    payload = await cli.run("schedules", "show", "shop:app", "digest", "--payload")
    document = json.loads((await cli.run("schedules", "show", "digest", "shop", "--json")).out)
    whole = json.loads((await cli.run("schedules", "show", "digest", "shop", "--json", "--payload")).out)

    first, *rest = shown.out.splitlines()
    assert "schedule digest  active" == first
    assert "  no worker is alive, and only workers fire" == rest[0]
    facts = dict(line.strip().split("  ", 1) for line in rest[1 : rest.index("")])
    assert ("note", "30 8 * * *", "Asia/Tokyo", "stored", "once", "skip", "up to 90 s") == tuple(
        facts[name].strip() for name in ("task", "cron", "tz", "said", "missed", "overlap", "jitter")
    )
    times = [line.split() for line in rest if line.endswith(("s", "min", "h", "days")) and " JST " in line]
    assert [["23:30:00", "08:30:00"]] * 5 == [[words[1], words[4]] for words in times]
    jobs = [line.split() for line in rest[rest.index("last jobs") + 2 :]]
    assert [str(by_hand), "2026-03-02", "2026-03-01"] == [jobs[0][0], jobs[1][2], jobs[2][2]]
    assert "marker" not in shown.out + json.dumps(document)
    assert '"text":"marker-4f1b8"' in payload.out
    assert {"n": 7, "text": "marker-4f1b8"} == whole["args"]
    assert 5 == len(document["planned"])
    assert str(by_hand) == document["jobs"][0]["id"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("broken", "cannot be fired: InvalidOption: cron; mend what it says, then `schedules resume`"),
        ("ended", "no planned time is left"),
        ("late", "10 min late: no worker is alive, and only workers fire"),
        ("paused", "paused until it is resumed"),
        ("resting", "paused until "),
        ("undeclared", "no worker has had it in its code since "),
    ],
)
async def test_it_says_why_it_does_not_run(cli: CommandLine, shop: Shop, name: str, sentence: str) -> None:
    """The line below its name is what somebody wants to know who was woken up for it."""
    async with app_on(shop.dsn) as app:
        await one_of_each(app, shop.dsn)
    shown = await cli.run("schedules", "show", name, "--dsn", shop.dsn)

    assert shown.out.splitlines()[1].strip().startswith(sentence)


async def test_a_row_that_no_worker_has_come_to_is_shown(cli: CommandLine, shop: Shop) -> None:
    """What plain SQL has written is told as the firer will find it; verbs that need it say so in one line."""
    async with app_on(shop.dsn) as app:
        await put(app, "odd")
    await write(shop.dsn, "odd", "cron = 'never', options = '5'")
    shown = await cli.run("schedules", "show", "odd", "--dsn", shop.dsn)

    assert "cannot be fired: cron: must have five fields" in shown.out
    assert "options  5" in " ".join(shown.out.split(" ")[-3:]) or "  5\n" in shown.out
    for words, told in (
        (("next", "odd"), "schedule 'odd' cannot be fired: cron: "),
        (("backfill", "odd", "--since", "2026-01-01T00:00Z"), "schedule 'odd' cannot be fired: cron: "),
        (("pause", "odd", "--for", "1h"), "schedule 'odd' cannot be fired: cron: "),
        (("trigger", "odd"), "schedule 'odd' cannot be fired: options: "),
    ):
        answer = await cli.run("schedules", *words, "--dsn", shop.dsn)
        assert (1, "", 1) == (answer.code, answer.out, len(answer.err.splitlines())), answer.err
        assert told in answer.err


async def test_the_next_times_are_told(cli: CommandLine, shop: Shop) -> None:
    """So many as were asked for; none of one that is paused, which is said."""
    async with app_on(shop.dsn) as app:
        await put(app, "yearly", "0 0 1 1 *")
        await put(app, "off")
        await app.schedules.pause("off")
    three = await cli.run("schedules", "next", "yearly", "-n", "3", "--dsn", shop.dsn)
    times = json.loads((await cli.run("schedules", "next", "yearly", "shop", "--json")).out)
    none = await cli.run("schedules", "next", "off", "--dsn", shop.dsn)

    year = datetime.now(UTC).year
    assert [f"{year + n}-01-01 00:00:00" for n in (1, 2, 3)] == [line[:19] for line in three.out.splitlines()[1:]]
    assert [f"{year + n}-01-01T00:00:00+00:00" for n in range(1, 6)] == times
    assert (0, "", "jobqueue: schedule off: paused until it is resumed\n") == (none.code, none.out, none.err)


async def test_one_is_paused_and_resumed(cli: CommandLine, shop: Shop) -> None:
    """For ever, for so long or until then, by the database's clock; a second resume has nothing to do."""
    async with app_on(shop.dsn) as app:
        await put(app, "digest")
        paused = await cli.run("schedules", "pause", "digest", "--dsn", shop.dsn)
        assert (await app.schedules.get("digest")).paused
        again = [await cli.run("schedules", "resume", "digest", "shop") for _ in range(2)]
        length = json.loads((await cli.run("schedules", "pause", "digest", "shop", "--for", "2h", "--json")).out)
        until = await cli.run("schedules", "pause", "shop:app", "digest", "--until", "2090-01-01T00:00+01:00")
        schedule = await app.schedules.get("digest")

    assert (0, "schedule digest is paused until it is resumed; its jobs go on\n") == (paused.code, paused.out)
    assert [True, False] == ["is resumed; next " in answer.out for answer in again]
    assert "is not paused; next " in again[1].out
    since, end = (datetime.fromisoformat(length[name]) for name in ("paused_at", "paused_until"))
    assert abs(end - since - timedelta(hours=2)) < timedelta(minutes=1)
    assert "is paused until 2089-12-31 23:00:00 UTC" in until.out
    assert datetime(2089, 12, 31, 23, tzinfo=UTC) == schedule.paused_until


async def test_a_broken_one_is_mended_by_a_resume(cli: CommandLine, shop: Shop) -> None:
    """Once its row says what can be, it is active again."""
    async with app_on(shop.dsn) as app:
        await put(app, "odd")
        await write(shop.dsn, "odd", "broken = 'InvalidOption', next_at = null")
        resumed = await cli.run("schedules", "resume", "odd", "--dsn", shop.dsn)

        assert resumed.out.startswith("schedule odd is resumed; next ")
        assert "active" == (await app.schedules.get("odd")).state


async def test_jobs_are_made_by_hand(cli: CommandLine, shop: Shop) -> None:
    """A trigger stores one now; a backfill those of past times that have none, and says how many had theirs."""
    async with app_on(shop.dsn) as app:
        await put(app, "daily", "0 7 * * *")
        triggered = await cli.run("schedules", "trigger", "daily", "--dsn", shop.dsn)
        job = json.loads((await cli.run("schedules", "trigger", "daily", "shop", "--json")).out)["job"]
        words = ("schedules", "backfill", "daily", "--since", "2026-01-01T00:00Z", "--until", "2026-01-04T00:00Z")
        first = await cli.run(*words, "--dsn", shop.dsn)
        second = json.loads((await cli.run(*words, "--json", "--dsn", shop.dsn)).out)
        none = await cli.run(*words[:-1], "2026-01-01T07:00Z", "--dsn", shop.dsn)
        jobs = await app.jobs.list(origin="schedule:daily")

    assert [job, triggered.out.split()[1]] == [str(each.id) for each in jobs][:2]
    assert "stored 3 jobs\n" == first.out
    assert {"schedule": "daily", "stored": 0, "known": 3} == second
    assert "no planned time lies there\n" == none.out
    assert [datetime(2026, 1, day, 7, tzinfo=UTC) for day in (3, 2, 1)] == [each.planned_at for each in jobs][2:]


async def test_one_is_deleted(cli: CommandLine, shop: Shop) -> None:
    """After a question, or with --yes; what a living worker declares is refused; its jobs stay."""
    async with app_on(shop.dsn) as app:
        await put(app, "mine")
        await app.schedules.trigger("mine")
        await put(app, "theirs")
        await write(shop.dsn, "theirs", "source = 'code', seen_at = now()")
        refused = await cli.run("schedules", "delete", "theirs", "--yes", "--dsn", shop.dsn)
        unasked = await cli.run("schedules", "delete", "mine", "--dsn", shop.dsn)
        for typed, code in (("n\n", 1), ("y\n", 0)):
            with terminal(cli.folder, "schedules", "delete", "mine", JOBQUEUE_DSN=shop.dsn) as running:
                await running.shows("delete schedule 'mine' (0 0 29 2 *, task note)? Its jobs stay")
                running.type(typed)
                assert code == await running.ends(), running.text
        gone = await cli.run("schedules", "delete", "mine", "shop", "--yes")

        assert 1 == len(await app.jobs.list(origin="schedule:mine"))
    assert (1, "jobqueue: schedule 'theirs' is in the code of a worker: remove it there, or pause it\n") == (
        refused.code, refused.err,
    )  # fmt: skip
    assert (2, True) == (unasked.code, "give --yes" in unasked.err)
    assert (1, True) == (gone.code, "no schedule 'mine'" in gone.err)


async def test_wrong_words_are_one_line(cli: CommandLine, shop: Shop) -> None:
    """A slip in the name is asked about; wrong times and numbers are usage, and name their option."""
    async with app_on(shop.dsn) as app:
        await put(app, "digest")
        await put(app, "tick", "* * * * * *")
    for words, code, told in (
        (("show", "digset"), 1, "no schedule 'digset'; did you mean 'digest'?"),
        (("trigger", "zzzz"), 1, "`schedules list` has those there are"),
        (("show", "x\ny"), 2, "NAME: must have printable characters"),
        (("pause", "digest", "--for", "1y"), 2, "--for: must be a length of time"),
        (("pause", "digest", "--until", "2020-01-01T00:00Z"), 2, "--until: this time is over"),
        (("pause", "digest", "--until", "2090-01-01T00:00Z", "--for", "1h"), 2, "either --for or --until"),
        (("backfill", "digest"), 2, "--since: say from when on"),
        (("backfill", "digest", "--since", "2090-01-01T00:00Z"), 2, "--since: must be before --until"),
        (
            ("backfill", "digest", "--since", "2026-01-01T00:00Z", "--until", "2090-01-01T00:00Z"),
            2,
            "--until: must not",
        ),
        (("backfill", "tick", "--since", "2026-01-01T00:00Z"), 2, "--since: more than 10000"),
        (("next", "digest", "-n", "0"), 2, "'-n'"),
        (("list", "--source", "other"), 2, "'--source'"),
    ):
        answer = await cli.run("schedules", *words, "--dsn", shop.dsn)
        assert (code, "", 1) == (answer.code, answer.out, len(answer.err.splitlines())), answer.err
        assert told in answer.err


async def test_a_name_with_a_colon_is_a_name(cli: CommandLine, shop: Shop) -> None:
    """`remind:7` beside an App is no App: only what could be one is, and only before what could not."""
    async with app_on(shop.dsn) as app:
        await put(app, "remind:7")
        await put(app, "user:daily")
    shown = await cli.run("schedules", "show", "remind:7", "shop")
    other = await cli.run("schedules", "show", "user:daily", "shop:app")
    swapped = await cli.run("schedules", "show", "shop:app", "remind:7")

    assert ["remind:7", "user:daily", "remind:7"] == [each.out.split()[1] for each in (shown, other, swapped)]
