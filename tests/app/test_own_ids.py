"""Ids of our own making name one job each: whoever makes the same one, no job is taken for another's."""

import os
import subprocess
import sys
from itertools import chain, repeat
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from jobqueue.app import App
from jobqueue.base.job import NewJob
from jobqueue.tasks.options import Unique
from tests.support.jobs.deferring import WAYS, Way
from tests.support.jobs.working import asked, counted, new_app


def taken_once(monkeypatch: pytest.MonkeyPatch, id: UUID, times: int = 1) -> None:
    """The next ids that are made are this one; then new ones, as ever."""
    made = chain(repeat(id, times), iter(uuid7, None))
    for module in ("jobqueue.tasks.task", "jobqueue.store.intake"):
        monkeypatch.setattr(f"{module}.uuid7", lambda: next(made))


@pytest.mark.parametrize("way", [way for way in WAYS if way.__name__ != "many"], ids=lambda way: way.__name__)
async def test_an_id_that_is_taken_gives_way_to_a_new_one(
    database: str, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """A defer whose fresh id another job has already is stored under the next one, and is no duplicate."""
    app = new_app(database)

    @app.task
    async def note(text: str) -> None:
        pass

    async with app:
        first = await note.defer("first")
        taken_once(monkeypatch, first.id, times=2)
        second = await way(app, note, "second")

    assert first.id != second.id
    assert not second.duplicate
    assert 1 == await counted(database, "id = $1 and args ->> 'text' = 'first'", first.id)
    assert 1 == await counted(database, "id = $1 and args ->> 'text' = 'second'", second.id)


async def test_a_key_goes_along_to_the_new_id(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unique key of such a job is held by the id under which it was stored."""
    app = new_app(database)

    @app.task
    async def note(text: str) -> None:
        pass

    async with app:
        first = await note.defer("first")
        taken_once(monkeypatch, first.id)
        keyed = await note.options(unique=Unique("k")).defer("second")
        again = await note.options(unique=Unique("k")).defer("third")

    assert (False, True) == (keyed.duplicate, again.duplicate)
    assert first.id != keyed.id == again.id == await asked(database, "select job_id from jobqueue.job_key")


async def test_two_of_one_call_under_one_id_are_two_jobs(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defers that are sent in one statement with one fresh id are all stored, each under an id of its own."""
    app = new_app(database)

    @app.task
    async def note(text: str) -> None:
        pass

    async with app:
        taken_once(monkeypatch, uuid7(), times=3)
        handles = await note.defer_many(["a", "b", "c"])

    assert 3 == len({handle.id for handle in handles})
    assert [False] * 3 == [handle.duplicate for handle in handles]
    assert 3 == await counted(database)


async def test_a_new_job_that_its_caller_has_seen_stays_what_it_is(database: str) -> None:
    """`task.job()` gives an id away: sent twice it is one job, and the second time a duplicate."""
    app: App = new_app(database)

    @app.task
    async def note(text: str) -> None:
        pass

    async with app:
        job: NewJob[None] = note.job("once")
        handles = [(await app.defer_many([job]))[0] for _ in range(2)]

    assert [(job.id, False), (job.id, True)] == [(handle.id, handle.duplicate) for handle in handles]
    assert 1 == await counted(database)


FORKS = """
import os, sys
from uuid_utils.compat import uuid7
uuid7()
for child in range(8):
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, b"".join(uuid7().bytes for _ in range(256)))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        sys.stdout.buffer.write(answers.read())
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_processes_make_different_ids() -> None:
    """What the library makes ids with begins anew in a forked process."""
    made = subprocess.run([sys.executable, "-c", FORKS], check=True, capture_output=True).stdout
    ids = [made[place : place + 16] for place in range(0, len(made), 16)]

    assert 8 * 256 == len(ids) == len(set(ids))
