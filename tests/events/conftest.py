"""Events are told without a pause here: how soon is not what these tests are about."""

import pytest

from jobqueue.events import feed


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_IDLE", feed._SOON)
    monkeypatch.setattr(feed, "_BUSY", feed._SOON)
