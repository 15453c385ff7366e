"""What is seen of phases, sleeps and signals in `jobs show`; and `jobs retry --from-start`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from jobqueue import Fatal, JobContext
from jobqueue.base.flows.phase import Phase, PhaseState
from jobqueue.base.job import AttemptError, Job, JobState
from jobqueue.cli.jobs.story import Story
from jobqueue.cli.terminal import output
from jobqueue.store.workers import WorkerRow
from tests.cli.conftest import Shop
from tests.support.jobs.working import end_of, new_app, reached
from tests.support.programs.processes import CommandLine
from tests.support.programs.terminal import terminal

NOW = datetime.now(UTC)
WORKER = WorkerRow(UUID(int=1), "shop", "host", 4711, "0.1.0", ("*",), 50, NOW, NOW, True)
JOB = Job(UUID(int=7), "order", "mail", JobState.SCHEDULED, 0, 0, 20, 0, 0, NOW + timedelta(hours=3), NOW)
ASLEEP = Phase("cool-down", "sleep", PhaseState.SLEEPING, 2, 1, None, NOW, None, JOB.due_at)
WAITS = replace(ASLEEP, name="first", kind="wait", state=PhaseState.WAITING, signal="approved")
STEP = replace(ASLEEP, name="charge", kind="phase", state=PhaseState.COMPLETED, ended_at=NOW, wake_at=None)
FOREVER = NOW + timedelta(days=3660)
UNTIL = f"until {JOB.due_at:%Y-%m-%d %H:%M:%S} UTC (in 3 h)"


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are told as of NOW."""
    ago = output.ago
    monkeypatch.setattr(output, "ago", lambda moment, now=None: ago(moment, now or NOW))


def told(capsys: pytest.CaptureFixture[str], job: Job, phases: Sequence[Phase]) -> tuple[list[str], list[str]]:
    """The sentences below the first line, and the timeline below its headers."""
    Story(job, None, (WORKER,), phases=phases).write(False, NOW)
    lines = capsys.readouterr().out.splitlines()
    end = next(number for number, line in enumerate(lines) if line.startswith("  task "))
    start = lines.index("phases") if "phases" in lines else len(lines)
    return [line.strip() for line in lines[1:end]], [" ".join(line.split()) for line in lines[start + 2 :]]


@pytest.mark.parametrize(
    ("job", "phases", "sentences"),
    [
        (JOB, [STEP, ASLEEP], [f"sleeps in phase 'cool-down' {UNTIL}"]),
        (JOB, [WAITS], [f"waits for signal 'approved' {UNTIL}"]),
        (replace(JOB, due_at=FOREVER), [replace(WAITS, wake_at=FOREVER)], ["waits for signal 'approved'"]),
        (
            JOB, [replace(WAITS, wake_at=FOREVER), ASLEEP],
            [f"sleeps in phase 'cool-down' {UNTIL}", "waits for signal 'approved'"],
        ),
        (
            JOB, [replace(ASLEEP, name=f"{n}") for n in range(12)],
            [*(f"sleeps in phase '{n}' {UNTIL}" for n in range(5)), "and 7 more"],
        ),
        (
            replace(JOB, deadline=JOB.due_at), [replace(ASLEEP, wake_at=JOB.due_at + timedelta(hours=2))],
            [
                f"sleeps in phase 'cool-down' until {JOB.due_at + timedelta(hours=2):%Y-%m-%d %H:%M:%S} UTC (in 5 h)",
                f"its budget ends before that: {UNTIL.removeprefix('until ')}",
            ],
        ),
        (
            replace(JOB, attempt=1, errors=(AttemptError("E", "m", attempt=1),)),
            [replace(ASLEEP, wake_at=NOW + timedelta(days=3))], ["attempt 1 failed; due in 3 h"],
        ),
        (JOB, [replace(STEP, state=PhaseState.INTERRUPTED, wake_at=JOB.due_at)], ["due in 3 h"]),
        (replace(JOB, due_at=NOW - timedelta(hours=3)), [ASLEEP], ["waits 3 h"]),
        (
            replace(JOB, state=JobState.RUNNING, claimed_at=NOW - timedelta(hours=3), worker_id=WORKER.id),
            [replace(STEP, state=PhaseState.RUNNING, ended_at=None, began_at=NOW - timedelta(seconds=2)), ASLEEP],
            ["runs for 3 h", "in phase 'charge' for 2 s"],
        ),
    ],
    ids=["sleeps", "waits", "for ever", "both", "many", "budget", "failed beside", "interrupted", "due", "runs"],
)  # fmt: skip
def test_where_a_job_is(
    capsys: pytest.CaptureFixture[str], job: Job, phases: Sequence[Phase], sentences: list[str]
) -> None:
    """A job that sleeps, or waits for a signal, says in what and until when; one that is scheduled for another reason
    says that; one that runs names the phases that do."""
    assert sentences == told(capsys, job, phases)[0]


@pytest.mark.parametrize(
    ("phase", "line"),
    [
        (replace(STEP, began_at=NOW - timedelta(seconds=3), result_bytes=1204), "charge phase completed {} 3 s 1 1204"),
        (
            replace(STEP, state=PhaseState.FAILED, error_json='{"class": "shop.Declined", "message": "no\\nmore"}'),
            "charge phase failed {} 0 ms 1 Declined: no",
        ),
        (
            replace(STEP, state=PhaseState.FAILED, error_json=json.dumps({"class": "E", "message": "m" * 200})),
            f"charge phase failed {{}} 0 ms 1 E: {66 * 'm'}…",
        ),
        (
            replace(STEP, state=PhaseState.FAILED, error_json='{"class": "E", "message": ""}'),
            "charge phase failed {} 0 ms 1 E",
        ),
        (replace(STEP, state=PhaseState.INTERRUPTED, ended_at=None), "charge phase interrupted {} 1"),
        (replace(ASLEEP, state=PhaseState.CANCELLED), "cool-down sleep cancelled {} 1"),
        (replace(ASLEEP, attempt=12), f"cool-down sleep sleeping {{}} 0 ms 12 {UNTIL}"),
        (WAITS, f"first wait waiting {{}} 0 ms 1 signal 'approved', {UNTIL}"),
        (replace(WAITS, name="approved", wake_at=FOREVER), "approved wait waiting {} 0 ms 1"),
        (replace(WAITS, state=PhaseState.COMPLETED, ended_at=NOW), "first wait completed {} 0 ms 1 signal 'approved'"),
    ],
)
def test_a_phase_is_one_line(capsys: pytest.CaptureFixture[str], phase: Phase, line: str) -> None:
    """Name, kind, state, begin, how long it took, attempt, size; how it failed, in short; until when, for which
    signal. What was cut short took no time that anybody knows."""
    assert [line.format(f"{phase.began_at:%m-%d %H:%M:%S}")] == told(capsys, JOB, [phase])[1]


def test_of_very_many_phases_the_last_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A job of thousands of phases fits on a screen or two, and says where all are."""
    _, lines = told(capsys, JOB, [replace(STEP, name=f"page {n}") for n in range(1234)])

    assert (51, "page 1184", "page 1233") == (len(lines), lines[1][:9], lines[-1][:9])
    Story(JOB, None, (WORKER,), phases=[replace(STEP, name=f"{n}") for n in range(1234)]).write(False, NOW)
    assert "  the last 50 of 1234; --json has all" in capsys.readouterr().out.splitlines()


def test_errors_name_their_phase(capsys: pytest.CaptureFixture[str]) -> None:
    """Which phase failed, and its place; equal errors of two phases are told apart, of one they are one."""
    error = AttemptError("OSError", "refused", attempt=1, at=NOW, phase="charge", place=2)
    errors = (
        error, replace(error, attempt=2), replace(error, attempt=3, phase="ship", place=3),
        replace(error, attempt=4, phase=None, place=None),
    )  # fmt: skip
    Story(replace(JOB, errors=errors), None, (WORKER,)).write(False, NOW)

    text = capsys.readouterr().out
    assert ["in phase 'charge', place 2", "in phase 'ship', place 3"] == [
        line.strip() for line in text.splitlines() if "in phase" in line
    ]
    assert 3 == text.count("OSError: refused")


def test_names_of_phases_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """What a handler made of its names and errors is shown as text, whatever stands in it."""
    bad = replace(
        STEP, name="a\x1b[2J\nb", error_json='{"class": "E", "message": "\\u001b[2J"}', state=PhaseState.FAILED
    )
    Story(JOB, None, (WORKER,), phases=[bad], signals={"\x1b[2J": 2}).write(False, NOW)

    assert "\x1b" not in capsys.readouterr().out


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

    @app.task
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
        listed.result  # noqa: B018
