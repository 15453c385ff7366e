"""`jobs show`: what is the matter with a job, in words, and how its attempts failed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from jobqueue.base.flows.schedule import planned_id
from jobqueue.base.job import AttemptError, Job, JobState
from jobqueue.cli.jobs.story import write_story
from jobqueue.store.looking.overview import Beside, Dependency, Waits
from jobqueue.store.workers import WorkerRow
from jobqueue.telling.story import Story
from tests.cli.conftest import Shop
from tests.support.jobs.blocked import block
from tests.support.jobs.store import connect
from tests.support.programs.processes import CommandLine

NOW = datetime.now(UTC)
WORKER = WorkerRow(UUID(int=1), "shop", "host", 4711, "0.1.0", ("*", "-bulk"), 50, NOW, NOW, True)
JOB = Job(UUID(int=7), "send_mail", "mail", JobState.READY, 0, 0, 20, 0, 0, NOW - timedelta(seconds=300), NOW)
FREE = Beside(None, False, None)
NOTHING = Waits()
FAILED = AttemptError("ConnectionError", "refused", attempt=1, at=NOW, worker=str(UUID(int=1)))


def told(
    capsys: pytest.CaptureFixture[str],
    job: Job,
    *workers: WorkerRow,
    beside: Beside | None = FREE,
    waits: Waits = NOTHING,
) -> tuple[list[str], str]:
    """The sentences below the first line, and all of it."""
    write_story(Story(job, beside, workers or (WORKER,), waits=waits), False, NOW)
    text = capsys.readouterr().out
    lines = text.splitlines()
    end = next(number for number, line in enumerate(lines) if line.startswith("  task "))
    return [line.strip() for line in lines[1:end]], text


@pytest.mark.parametrize(
    ("said", "workers", "beside", "sentences"),
    [
        ({}, (WORKER,), FREE, ["waits 5 min"]),
        ({}, (replace(WORKER, alive=False),), FREE, ["waits 5 min", "no worker is alive"]),
        ({"queue": "bulk"}, (WORKER,), FREE, ["waits 5 min", "no living worker serves queue bulk"]),
        ({}, (WORKER,), Beside(None, True, None), ["waits 5 min", "queue mail is paused"]),
        (
            {}, (WORKER,), Beside(None, True, NOW + timedelta(seconds=600)),
            ["waits 5 min", "queue mail is paused, resumes in 10 min"],
        ),
        (
            {"state": JobState.SCHEDULED, "due_at": NOW + timedelta(seconds=900), "attempt": 1, "errors": (FAILED,)},
            (WORKER,), FREE, ["attempt 1 failed; due in 15 min"],
        ),
        (
            {"state": JobState.SCHEDULED, "due_at": NOW + timedelta(seconds=600)},
            (WORKER,), Beside(300.0, False, None),
            ["put aside for 5 min: no worker knows its task, or its arguments do not fit it", "due in 10 min"],
        ),
        ({"state": JobState.DEAD, "reason": "attempts"}, (WORKER,), None, ["its attempts are used up"]),
        ({"state": JobState.DEAD, "reason": "something new"}, (WORKER,), None, ["it was given up"]),
        ({"state": JobState.CANCELLED, "reason": "requested"}, (WORKER,), None, ["somebody cancelled it"]),
        ({"state": JobState.CANCELLED, "reason": "no stock"}, (WORKER,), None, ["its task cancelled it"]),
        ({"state": JobState.COMPLETED}, (WORKER,), None, []),
    ],
)  # fmt: skip
def test_what_is_the_matter(
    capsys: pytest.CaptureFixture[str],
    said: dict[str, object],
    workers: tuple[WorkerRow, ...],
    beside: Beside | None,
    sentences: list[str],
) -> None:
    """S4-98: below its state a job's story says what it waits for, or how it ended."""
    assert sentences == told(capsys, replace(JOB, **said), *workers, beside=beside)[0]  # type: ignore[arg-type]


BLOCKED = replace(JOB, state=JobState.BLOCKED)
DOOMED = replace(JOB, state=JobState.CANCELLED, reason="dependency")
FIRST = Dependency(UUID(int=0xABC), "load", JobState.RUNNING, any_end=False)


@pytest.mark.parametrize(
    ("job", "waits", "sentences"),
    [
        (BLOCKED, NOTHING, ["waits for others"]),
        (
            BLOCKED, Waits(2, 3, (FIRST, replace(FIRST, id=UUID(int=0xDEF), task="render", state=JobState.READY))),
            ["waits for 2 of 3: load …00000abc (running), render …00000def (ready)"],
        ),
        (
            replace(BLOCKED, due_at=NOW + timedelta(seconds=600)), Waits(9_999, 10_000, (FIRST,)),
            ["waits for 9999 of 10000: load …00000abc (running), 9998 more; due in 10 min"],
        ),
        (
            DOOMED, Waits(2, 2, (replace(FIRST, state=JobState.DEAD), replace(FIRST, task="other"))),
            ["a job that it came after did not complete",
             "it needs load …00000abc (dead): a retry of that brings both back"],
        ),
        (
            DOOMED, Waits(1, 1, (replace(FIRST, task=None, state=None),)),
            ["a job that it came after did not complete", "it needs job …00000abc (deleted)"],
        ),
        (
            DOOMED, Waits(1, 1, (replace(FIRST, state=JobState.CANCELLED),)),
            ["a job that it came after did not complete", "it needs load …00000abc (cancelled)"],
        ),
        (DOOMED, NOTHING, ["a job that it came after did not complete"]),
    ],
)  # fmt: skip
def test_what_a_job_waits_for_is_named(
    capsys: pytest.CaptureFixture[str], job: Job, waits: Waits, sentences: list[str]
) -> None:
    """Of a blocked job the first of those that it waits for; of one that was cancelled for want of another, that."""
    assert sentences == told(capsys, job, waits=waits)[0]


async def test_a_blocked_job_is_shown(cli: CommandLine, shop: Shop) -> None:
    """`jobs list` finds it by its state, `jobs show` and its JSON name what it waits for, tables have a column."""
    before = [UUID(shop.defer("note", f'{{"n": {n}}}')) for n in range(7)]
    id = UUID(shop.defer("say", '{"text": "last"}', "mail"))
    async with connect(shop.dsn) as connection:
        await block(connection, id, before)

    listed = json.loads((await cli.run("jobs", "list", "--state", "blocked", "--json", "--dsn", shop.dsn)).out)
    shown = await cli.run("jobs", "show", str(id), "--dsn", shop.dsn)
    document = json.loads((await cli.run("jobs", "show", str(id), "--json", "--dsn", shop.dsn)).out)["waits_for"]
    queues = await cli.run("queues", "list", "--dsn", shop.dsn)
    top = await cli.run("top", "--once", "--dsn", shop.dsn)

    assert [(str(id), "blocked")] == [(job["id"], job["state"]) for job in listed]
    named = ", ".join(f"note …{str(one)[-8:]} (ready)" for one in before[:5])
    assert f"  waits for 7 of 7: {named}, 2 more" == shown.out.splitlines()[1]
    assert (7, 7) == (document["unmet"], document["total"])
    assert {"id": str(before[0]), "task": "note", "state": "ready", "any_end": False} == document["first"][0]
    assert ["queue", "scheduled", "blocked", "ready", "running"] == queues.out.split()[:5]
    assert ["mail", "0", "1", "0", "0"] == queues.out.splitlines()[2].split()
    assert "jobs: 7 ready, 0 scheduled, 1 blocked, 0 running" in top.out


def test_a_running_job_says_by_whom(capsys: pytest.CaptureFixture[str]) -> None:
    """S3-17, S4-98: for how long, how far, where; whether it was asked to end; and whether its worker is dead."""
    running = replace(
        JOB, state=JobState.RUNNING, attempt=1, claimed_at=NOW - timedelta(seconds=300), worker_id=UUID(int=1),
        lease_until=NOW + timedelta(seconds=15),
        progress_json='{"fraction": 0.42, "message": "page 42", "data": {"a": 1}}',
    )  # fmt: skip

    sentences, text = told(capsys, running)
    assert ["runs for 5 min"] == sentences
    assert "host, pid 4711" in text
    assert 'progress     42%, page 42, {"a": 1}' in text
    sentences, _ = told(
        capsys, replace(running, cancel_asked=NOW - timedelta(seconds=130)), replace(WORKER, alive=False)
    )
    assert "runs for 5 min; was asked to end 2 min ago" == sentences[0]
    assert sentences[1].startswith("its worker gives no sign of life; another takes it once its lease ends in 15 s")
    sentences, _ = told(capsys, replace(running, lease_until=NOW - timedelta(seconds=15)), replace(WORKER, alive=False))
    assert sentences[1].endswith("another takes it as soon as one looks")


def test_it_says_for_which_planned_time_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a job of a schedule the planned time and the schedule; of one triggered by hand that; of others nothing."""
    planned = datetime(2026, 3, 1, 6, tzinfo=UTC)
    made = replace(JOB, id=planned_id("digest", planned), origin="schedule:digest")

    assert "  planned  2026-03-01 06:00:00 UTC (" in (text := told(capsys, made)[1])
    assert " by schedule digest\n" in text
    by_hand = replace(made, id=UUID("01a2229b-25af-77f1-9c4b-976a54990d6f"))
    assert "  planned  by hand: schedule digest was triggered\n" in told(capsys, by_hand)[1]
    for other in (replace(JOB, origin="shop"), replace(made, id=UUID(int=7)), JOB):
        assert "planned" not in told(capsys, other)[1]


def test_progress_of_another_kind_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """S3-17: whoever wrote it."""
    assert '["odd"]' in told(capsys, replace(JOB, progress_json='["odd"]'))[1]


def test_errors_that_are_alike_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """S4-98: twenty attempts that failed alike fit on a screen; another error in between is seen."""
    errors = [replace(FAILED, attempt=number) for number in range(1, 20)]
    errors[9] = replace(errors[9], message="no\nroute", worker=None)
    job = replace(JOB, state=JobState.DEAD, reason="attempts", errors=tuple(errors))

    _, text = told(capsys, job)

    parts = [line.strip() for line in text.splitlines() if "attempt" in line and "UTC" in line]
    assert ["attempts 1 to 9, the last", "attempt 10,", "attempts 11 to 19, the last"] == [
        part[: part.index(" 20")] for part in parts
    ]
    assert 2 == text.count("ConnectionError: refused\n    worker host, pid 4711\n")
    assert r"ConnectionError: no\nroute" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([1, 2, 1, 2, 1, 2], "6 failures, the last in attempt 2,"),
        ([2, 1], "2 failures, the last in attempt 1,"),
        ([1, 1], "2 failures, the last in attempt 1,"),
        ([1, 2, 3, 4, 5, 8, 9], "attempts 1 to 9, the last"),
        ([2], "attempt 2,"),
    ],
)
def test_no_failure_is_lost_in_a_sum(capsys: pytest.CaptureFixture[str], numbers: list[int], said: str) -> None:
    """S4-98: after a retry by hand attempts are counted anew; the sum of equal failures says how many they were."""
    errors = tuple(replace(FAILED, attempt=number) for number in numbers)

    _, text = told(capsys, replace(JOB, errors=errors))

    assert [said] == [
        line[: line.index(" 20")].strip() for line in text.splitlines() if "UTC" in line and "attempt" in line
    ]


def test_data_of_an_error_is_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    """S4-98, S3-20: only with --payload, on one line; an error without data has no such line."""
    job = replace(JOB, errors=(replace(FAILED, data={"card": "4711", "why": "nö\x1b"}), replace(FAILED, message="b")))
    _, plain = told(capsys, job)
    write_story(Story(job, FREE, (WORKER,)), True, NOW)
    whole = capsys.readouterr().out

    assert "card" not in plain
    assert ['    data {"card": "4711", "why": "nö\\u001b"}'] == [line for line in whole.splitlines() if "data" in line]


async def test_why_a_job_waits_is_found_out(cli: CommandLine, shop: Shop) -> None:
    """S4-98: the command line looks at queue and workers: a paused queue, and no worker."""
    id = shop.defer("note", '{"n": 1}')
    await cli.run("queues", "pause", "default", "--dsn", shop.dsn)

    shown = await cli.run("jobs", "show", id, "--dsn", shop.dsn)

    assert ["queue default is paused", "no worker is alive"] == [line.strip() for line in shown.out.splitlines()[2:4]]
