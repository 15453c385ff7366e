"""Each test of schedules has an hour of its own, which does not end while it runs."""

import pytest

from tests.support.jobs import planned


@pytest.fixture(autouse=True)
def anew() -> None:
    planned.minute.cache_clear()
