"""`events`: what became of jobs, for people and for programs."""

import json
import signal

from tests.cli.conftest import Shop
from tests.support.jobs.working import asked
from tests.support.programs.processes import CommandLine
from tests.support.waiting import wait_until


async def test_the_newest_events_are_shown(cli: CommandLine, shop: Shop) -> None:
    """S2-10: a line for each event, the newest last; by type, task and job; as JSON a document on each line."""
    note = shop.defer("note", '{"n": 1}')
    fail = shop.defer("fail", '{"text": "hunter2"}', "bulk")
    assert 0 == (await cli.run("worker", "shop", "--burst")).code
    shown = await cli.run("events", "shop")
    dead = await cli.run("events", "--dsn", shop.dsn, "--type", "dead", "--json")
    one = await cli.run("events", "shop", "--job", note[-8:], "--json")
    last = await cli.run("events", "shop", "--limit", "1", "--json")

    lines = {line.split()[3]: line.split("  ", 1)[1] for line in shown.out.splitlines()}
    assert {note: f"completed  {note}  note", fail: f"dead       {fail}  fail, Fatal, fatal"} == lines
    (event,) = map(json.loads, dead.out.splitlines())
    assert ("job.dead", fail, "jobqueue.base.outcome.Fatal", "fatal", False) == (
        event["type"], event["job_id"], event["error"], event["reason"], event["will_retry"],
    )  # fmt: skip
    assert [note] == [json.loads(line)["job_id"] for line in one.out.splitlines()]
    assert 1 == len(last.out.splitlines())
    assert "hunter2" not in shown.out + dead.out


async def test_planned_times_that_were_left_out_are_told(cli: CommandLine, shop: Shop) -> None:
    """One line: of which schedule, how many, from when to when, and why; one alone has no end."""
    for facts in ('"last": "2026-03-03T06:00:00+00:00", "count": 3', '"last": "2026-03-01T06:00:00+00:00", "count": 1'):
        told = "{" + f'"first": "2026-03-01T06:00:00+00:00", {facts}' + "}"
        query = (
            "insert into jobqueue.event (type, task, queue, origin, jobs, attempts, reason, data) values"
            " ('schedule.missed', 'note', 'default', 'schedule:digest', array[gen_random_uuid()], '{0}', 'missed', $1)"
            " returning 1"
        )
        await asked(shop.dsn, query, told)
    shown = await cli.run("events", "--dsn", shop.dsn, "--type", "schedule.missed")

    assert [
        "note, digest: 3 planned times, 2026-03-01T06:00:00+00:00 to 2026-03-03T06:00:00+00:00, missed",
        "note, digest: 1 planned time, 2026-03-01T06:00:00+00:00, missed",
    ] == [line.split("  ")[-1] for line in shown.out.splitlines()]


async def test_it_goes_on_where_it_was(cli: CommandLine, shop: Shop) -> None:
    """S4-93: `--after` gives what came behind an event, and nothing twice."""
    first = shop.defer("note", '{"n": 1}')
    assert 0 == (await cli.run("worker", "shop", "--burst")).code
    event = json.loads((await cli.run("events", "shop", "--json")).out)
    second = shop.defer("note", '{"n": 2}')
    assert 0 == (await cli.run("worker", "shop", "--burst")).code
    rest = await cli.run("events", "shop", "--after", event["id"], "--json")
    everything = await cli.run("events", "shop", "--after", "0", "--json")

    assert [second] == [json.loads(line)["job_id"] for line in rest.out.splitlines()]
    assert [first, second] == [json.loads(line)["job_id"] for line in everything.out.splitlines()]


async def test_it_follows(cli: CommandLine, shop: Shop) -> None:
    """S2-10: `--follow` shows what comes as it comes, until Ctrl-C."""
    following = cli.start("events", "shop", "--follow", "--after", "0", "--json")
    id = shop.defer("note", '{"n": 1}')
    assert 0 == (await cli.run("worker", "shop", "--burst")).code
    await wait_until(lambda: id in following.out, "the event is shown")
    following.signal(signal.SIGINT)

    assert 130 == await following.ends()
    assert "Traceback" not in following.err


async def test_wrong_words_are_usage(cli: CommandLine, shop: Shop) -> None:
    """One line that names the option and what is right."""
    for words, told in (
        (("--type", "deed"), "--type: there is no event 'job.deed'; did you mean job.dead?"),
        (("--after", "yesterday"), "--after: must be the id of an event"),
        (("--task", "a\nb"), "--task: must have printable characters"),
    ):
        answer = await cli.run("events", "shop", *words)
        assert 2 == answer.code
        assert told in answer.err


async def test_a_job_shows_its_events(cli: CommandLine, shop: Shop) -> None:
    """S2-10: `jobs show` has what the log says of the job."""
    id = shop.defer("fail", '{"text": "no"}', "bulk")
    assert 0 == (await cli.run("worker", "shop", "--burst")).code
    shown = await cli.run("jobs", "show", "shop", id)
    document = json.loads((await cli.run("jobs", "show", "shop", id, "--json")).out)

    assert "dead       Fatal, fatal" in shown.out
    assert [("job.dead", id)] == [(event["type"], event["job_id"]) for event in document["events"]]
