"""Every test has the key of which secrets are made."""

import pytest

from tests.support.receiver import KEY


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes' key."""
    monkeypatch.setenv("JOBQUEUE_WEBHOOK_KEY", KEY)
