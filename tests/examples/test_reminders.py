"""The example of schedules, run as its readers do."""

import re

from tests.examples.programs import run


async def test_reminders_come_each_second(database: str) -> None:
    """A stored schedule has a job for each second, in their order; that of the code is stored at the worker's start."""
    ended = await run("examples/reminders.py", dsn=database)

    assert 0 == ended.code, ended.err
    times = re.findall(r"^remind: user 7, planned for (\d\d:\d\d:\d\d)$", ended.out, re.MULTILINE)
    assert (sorted(times), len(times)) == (times, len(set(times)))
    assert len(times) >= 3
    assert 3 == ended.out.count("ended: remind\n")
    assert re.search(r"^digest: 0 7 \* \* \* Europe/Vienna, next \d{4}-\d\d-\d\d 0[56]:00:00\+00:00$", ended.out, re.M)
