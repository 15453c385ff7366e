"""A deadlock undoes one of two transactions: on our own connection it is tried again, or cannot come at all."""

import asyncio

import pytest

from jobqueue import App, DatabaseError
from tests.support.jobs.working import asked, counted
from tests.support.postgres.backends import change

CHOSEN = """
create sequence victims;
create function chosen() returns trigger language plpgsql as $$
begin
  if nextval('victims') <= {times} then
    raise exception 'deadlock detected' using errcode = '40P01';
  end if;
  return new;
end $$;
create trigger chosen before insert on jobqueue.job for each statement execute function chosen();
"""


async def note(text: str) -> None: ...


@pytest.mark.parametrize("unique", [None, "k"])
async def test_a_defer_that_is_chosen_as_victim_is_sent_again(database: str, unique: str | None) -> None:
    """A10: 40P01 on a connection of ours is no error for the caller; everything is stored once."""
    await change(database, CHOSEN.format(times=3))
    async with App(database) as app:
        task = app.task(note)
        handles = await asyncio.gather(*(task.options(unique=unique).defer(f"{number}") for number in range(3)))
        bulk = await task.defer_many(["a", "b"])

    assert (3 if unique is None else 1) == len({handle.id for handle in handles})
    assert len({handle.id for handle in [*handles, *bulk]}) == await counted(database)


async def test_it_does_not_go_on_for_ever(database: str) -> None:
    """A10: who loses each time is told, and nothing is stored."""
    await change(database, CHOSEN.format(times=1000))
    async with App(database) as app:
        with pytest.raises(DatabaseError, match="deadlock") as told:
            await app.task(note).defer("a")
    assert "40P01" == told.value.sqlstate
    assert 4 == await asked(database, "select last_value from victims")
    assert 0 == await counted(database)
