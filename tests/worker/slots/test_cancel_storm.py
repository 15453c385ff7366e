"""Cancels at random moments: one end for each job, and answers, states and events that agree with it."""

import logging
from collections import Counter

import pytest
import structlog

from jobqueue import JobState
from tests.support.jobs.cancels import Storm, cancel_around_claims
from tests.support.jobs.working import counted
from tests.support.rounds import rounds
from tests.worker.slots.test_cancelling import events


async def test_cancels_at_random_moments(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """S2-30, S2-44: around start and finish each job ends once; answers, states and log events agree, all of them."""
    caplog.set_level(logging.DEBUG, "jobqueue")
    structlog.reset_defaults()  # an earlier test of this process may have sent events elsewhere
    storm = Storm(database, seed=3)
    await storm.run(rounds(100))
    assert 0 == await counted(database)

    told = Counter(line.split("job_id=")[1].split()[0].strip("'") for line in events(caplog, "job.cancelled"))
    kinds: Counter[tuple[JobState, bool]] = Counter()
    for number, (job, answers) in enumerate(zip(storm.jobs, storm.answers, strict=True)):
        said = {str(answer) for answer in answers}
        assert said <= {"done", "asked", "too_late"}
        assert [str(answer) for answer in answers].count("done") <= 1
        if "done" in said:
            assert (JobState.CANCELLED, "requested", {"done", "too_late"}) == (job.state, job.reason, said)
        if said == {"too_late"}:
            assert JobState.CANCELLED is not job.state
        assert storm.returned[str(number)] == (job.state is JobState.COMPLETED)
        while_it_ran = job.state is JobState.CANCELLED and "asked" in said
        assert int(while_it_ran) == told[str(job.id)], f"{number}: {said} {job.state}"
        kinds[job.state, "asked" in said] += 1
    assert kinds[JobState.CANCELLED, True] > 5, kinds
    assert kinds[JobState.COMPLETED, False] > 5, kinds


async def test_a_request_around_the_claim_is_heard(database: str) -> None:
    """S2-09: asked to end at any moment around its claim, a job that would run for ever is over at once."""
    assert 0 == await cancel_around_claims(database, lanes=4, each=rounds(30))
