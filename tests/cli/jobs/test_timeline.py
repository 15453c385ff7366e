"""How `jobs show` draws the phases of a job, and says where it is."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from jobqueue.base.flows.phase import Phase, PhaseState
from jobqueue.base.job import AttemptError, Job, JobState
from jobqueue.cli.jobs.story import write_story
from jobqueue.store.workers import WorkerRow
from jobqueue.telling import spans
from jobqueue.telling.story import Story

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
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
    ago = spans.ago
    monkeypatch.setattr(spans, "ago", lambda moment, now=None: ago(moment, now or NOW))


def told(capsys: pytest.CaptureFixture[str], job: Job, phases: Sequence[Phase]) -> tuple[list[str], list[str]]:
    """The sentences below the first line, and the timeline below its headers."""
    write_story(Story(job, None, (WORKER,), phases=phases), False, NOW)
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
    write_story(Story(JOB, None, (WORKER,), phases=[replace(STEP, name=f"{n}") for n in range(1234)]), False, NOW)
    assert "  the last 50 of 1234; --json has all" in capsys.readouterr().out.splitlines()


def test_errors_name_their_phase(capsys: pytest.CaptureFixture[str]) -> None:
    """Which phase failed, and its place; equal errors of two phases are told apart, of one they are one."""
    error = AttemptError("OSError", "refused", attempt=1, at=NOW, phase="charge", place=2)
    errors = (
        error, replace(error, attempt=2), replace(error, attempt=3, phase="ship", place=3),
        replace(error, attempt=4, phase=None, place=None),
    )  # fmt: skip
    write_story(Story(replace(JOB, errors=errors), None, (WORKER,)), False, NOW)

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
    write_story(Story(JOB, None, (WORKER,), phases=[bad], signals={"\x1b[2J": 2}), False, NOW)

    assert "\x1b" not in capsys.readouterr().out
