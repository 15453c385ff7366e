"""What a worker takes when it starts."""

from tests.support.jobs.working import new_app
from tests.support.postgres.backends import backends
from tests.support.waiting import wait_until


async def test_those_that_look_now_and_then_share_a_connection(database: str) -> None:
    """One each for the listener, the heart, the claims, what is due, the rescue, bundles; one for all the others."""
    ours = "application_name = 'starting'"
    async with new_app(database, name="starting") as app:
        before = set(await backends(database, ours))
        async with app.worker():

            async def all_have_looked() -> bool:
                return bool(await backends(database, f"{ours} and query ~ 'schedule' and state = 'idle'"))

            await wait_until(all_have_looked, "the last one, who fires schedules, has looked")
            opened = set(await backends(database, ours)) - before
    assert len(opened) <= 7
