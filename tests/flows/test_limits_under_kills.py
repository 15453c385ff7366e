"""Limits while workers are killed and frozen: never more at once, strict order kept, and no place lost in the end."""

import itertools
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobqueue import NewJob
from tests.flows.test_phases_under_kills import taken_over
from tests.support.jobs.beating import BEAT, LEASE
from tests.support.jobs.gates import declare_limits, held_after_all, watched
from tests.support.jobs.working import all_ended
from tests.support.patience import PATIENCE
from tests.support.programs.notebook import Line, Notebook
from tests.support.programs.processes import Process
from tests.support.waiting import wait_until

FAULTS = 8
LIMITS = {"one": 1, "three": 3, "order": 1}
KEYS = {"one\na": 25, "one\nb": 25, "three\na": 60, "order\nz": 12}
"""The gates, and how many jobs have each."""


@dataclass
class Stops:
    """When processes were stopped: what ran in them then goes no further."""

    moments: dict[int, list[float]]

    def note(self, process: Process) -> None:
        self.moments.setdefault(process.pid, []).append(time.monotonic())

    def end(self, began: Line, ended: float) -> float:
        """When a run came to its end, or was stopped."""
        return min([ended, *(at for at in self.moments.get(began.process, []) if at > began.at)])


def spans(lines: Sequence[Line], stops: Stops) -> list[tuple[UUID, float, float]]:
    """Of each run the job, its begin and its end."""
    found, open_runs = list[tuple[UUID, float, float]](), dict[tuple[UUID, int, int], Line]()
    for line in lines:
        run = line.job, line.process, line.attempt
        if line.word == "began":
            if (old := open_runs.pop(run, None)) is not None:  # given back without a word, and begun once more
                found.append((old.job, old.at, stops.end(old, line.at)))
            open_runs[run] = line
        elif (began := open_runs.pop(run, None)) is not None:
            found.append((line.job, began.at, stops.end(began, line.at)))
    return found + [(run.job, run.at, stops.end(run, run.at)) for run in open_runs.values()]


def most_at_once(found: Sequence[tuple[UUID, float, float]]) -> int:
    """How many different jobs ran at one moment."""
    return max(len({job for job, begin, end in found if begin <= at < end}) for _, at, _ in found)


@pytest.mark.timeout(240)
async def test_never_more_than_the_limit(own: str, tmp_path: Path) -> None:
    """Three workers, killed or frozen past their lease in turn, with retries and cancels: the ledger shows no more."""
    chance = random.Random(15)  # noqa: S311 - a seed to repeat it by
    knobs = {"LEASE": LEASE, "BEAT": BEAT, "RESCUE_INTERVAL": 0.3, "POLL": 1, "MAX_CRASHES": 1000}
    environment = {f"JOBQUEUE_{knob}": str(value) for knob, value in knobs.items()}
    stops = Stops({})
    await declare_limits(own, *LIMITS.items(), ordered=["order"])
    async with Notebook(tmp_path, own, **environment) as book, watched(own):
        jobs = {gate: [_job(book, gate, n) for n in range(count)] for gate, count in KEYS.items()}
        await book.app.defer_many([*itertools.chain(*jobs.values())])
        workers = await book.workers(3, "--concurrency", "6")
        loose = [job.id for gate in ("one\na", "three\na") for job in jobs[gate]]
        for _ in range(FAULTS):
            noted = len(book.lines()) + chance.randrange(3, 10)
            await wait_until(lambda: len(book.lines()) >= noted, "some more have begun")  # noqa: B023 - used at once
            await book.app.jobs.cancel(loose.pop(chance.randrange(len(loose))))
            victim = chance.randrange(3)
            if chance.random() < 0.5:
                await book.kill(workers[victim])
                stops.note(workers[victim])
                (workers[victim],) = await book.workers(1, "--concurrency", "6")
            else:
                workers[victim].signal(signal.SIGSTOP)
                stops.note(workers[victim])
                await wait_until(lambda: taken_over(own), "others have what it had")
                workers[victim].signal(signal.SIGCONT)
        await all_ended(own, 4 * PATIENCE)
        lines = book.lines(None)
    gate_of = {job.id: gate for gate, some in jobs.items() for job in some}
    for gate in KEYS:
        runs = spans([line for line in lines if gate_of[line.job] == gate], stops)
        assert most_at_once(runs) <= LIMITS[gate.partition("\n")[0]], gate
    order = [line.job for line in lines if line.word == "began" and gate_of[line.job] == "order\nz"]
    assert [job.id for job in jobs["order\nz"]] == [job for job, _ in itertools.groupby(order)]
    assert [] == await held_after_all(own)


def _job(book: Notebook, gate: str, n: int) -> NewJob[Any]:
    how = "fails" if n % 4 == 3 else "works"
    return replace(book.note.job(0.02, how), gates=(gate,))
