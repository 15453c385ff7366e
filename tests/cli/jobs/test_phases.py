"""What is seen of phases, sleeps and signals in `jobs show`; and `jobs retry --from-start`."""

import json
from dataclasses import dataclass
from datetime import timedelta

import pytest

from jobqueue import Fatal, JobContext
from jobqueue.base.job import JobState
from tests.cli.conftest import Shop
from tests.support.jobs.working import end_of, new_app, reached
from tests.support.programs.processes import CommandLine
from tests.support.programs.terminal import terminal


@dataclass
class Approval:
    by: str


async def test_the_timeline_of_a_job_in_a_terminal(cli: CommandLine, shop: Shop) -> None:
    """A job that has failed, was retried, and waits now, in 80 columns: the phases of both runs with their attempts,
    its failure's phase, what it waits for, which signals are unread. The JSON has all, results only on demand."""
    app = new_app(shop.dsn)
    broken = [True]

    async def read() -> list[int]:
        return [4711]

    async def charge(cents: int) -> str:
        if broken:
            raise Fatal("the terminal of the shop in the main street gives no answer, and nor does anybody else")
        return f"{cents} paid"

    @app.task(follow=True)
    async def order(ctx: JobContext) -> None:
        await ctx.phase("read all the pages of the catalogue", read)
        await ctx.phase("charge", charge, 4)
        await ctx.wait_for("first", Approval, timedelta(days=2), signal="approved")

    async with app, app.worker(concurrency=2):
        job = await order.defer()
        await end_of(app, job)
        broken.clear()
        await app.jobs.retry(job.id)
        await reached(app, job, JobState.SCHEDULED)
        await app.jobs.signal(job.id, "other", "secret")
        with terminal(cli.folder, "jobs", "show", str(job.id), JOBQUEUE_DSN=shop.dsn) as screen:
            await screen.ends()
            lines = screen.text.splitlines()
        plain = json.loads((await cli.run("jobs", "show", str(job.id), "--json", "--dsn", shop.dsn)).out)
        whole = json.loads((await cli.run("jobs", "show", str(job.id), "--json", "--payload", "--dsn", shop.dsn)).out)

    start, end = lines.index("phases"), lines.index("events")
    assert "waits for signal 'approved' until " in lines[1]
    assert ["signals", "1", "unread", "'other'"] in [line.split() for line in lines[:start]]
    assert max(map(len, lines[:end])) <= 80
    seen = [line.split() for line in lines[start + 1 : end]]
    assert ["name", "kind", "state", "began", "took", "try", "bytes"] == seen[0]
    assert ["read", "all", "the", "pages", "of", "the", "catalogue"] == seen[1]
    assert (["phase", "completed"], ["1", "6"]) == (seen[2][:2], seen[2][-2:])
    assert (["charge", "phase", "completed"], ["1", "8"]) == (seen[3][:3], seen[3][-2:])
    assert (["first", "wait", "waiting"], "1") == (seen[4][:3], seen[4][-1])
    assert ["signal", "'approved',", "until"] == seen[5][:3]
    assert "    in phase 'charge', place 2" in lines
    assert [
        "started", "phase read all the pages of the catalogue completed", "phase charge failed", "dead Fatal, fatal",
        "revived", "started", "phase charge completed", "phase first waiting", "waiting",
    ] == [" ".join(line.split()[2:]) for line in lines[end + 1 : lines.index("errors")]]  # fmt: skip

    phases = plain["phases"]
    assert [("phase", "completed", 6, 1), ("phase", "completed", 8, 2), ("wait", "waiting", None, 3)] == [
        (phase["kind"], phase["state"], phase["result_bytes"], phase["place"]) for phase in phases
    ]
    assert {"other": 1} == plain["signals"]
    assert ("charge", 2) == (plain["errors"][0]["phase"], plain["errors"][0]["place"])
    assert [[4711], "4 paid", None] == [phase["result"] for phase in whole["phases"]]
    assert not any("result" in phase for phase in phases)
    assert {"name", "attempt", "worker", "began_at", "ended_at", "wake_at", "signal", "error"} <= set(phases[0])


async def test_retry_from_the_start(cli: CommandLine, shop: Shop) -> None:
    """`jobs retry` runs what is left, `--from-start` all of it."""
    app = new_app(shop.dsn)
    steps = list[str]()

    async def step(name: str) -> None:
        steps.append(name)

    @app.task
    async def order(ctx: JobContext) -> None:
        await ctx.phase("first", step, "first")
        steps.append("handler")
        raise Fatal("not yet")

    async with app, app.worker(concurrency=1):
        job = await order.defer()
        await end_of(app, job)
        for words in (), ("--from-start",):
            answer = await cli.run("jobs", "retry", str(job.id), *words, "--dsn", shop.dsn)
            assert (0, "retried 1 job\n") == (answer.code, answer.out)
            await end_of(app, job)

    assert ["first", "handler", "handler", "first", "handler"] == steps


async def test_a_phase_that_is_listed_without_its_result_says_so(database: str) -> None:
    """Without payload the sizes are read, not the results: to ask for one is an error, not None."""
    app = new_app(database)

    async def read() -> str:
        return "ä"

    @app.task
    async def order(ctx: JobContext) -> None:
        await ctx.phase("read", read)

    async with app, app.worker(concurrency=1):
        job = await order.defer()
        await end_of(app, job)
        (listed,) = await app.jobs.phases(job.id, payload=False)
        (whole,) = await app.jobs.phases(job.id)

    assert (4, 4, "ä") == (listed.result_bytes, whole.result_bytes, whole.result)
    with pytest.raises(LookupError, match="listed without its result"):
        _ = listed.result
