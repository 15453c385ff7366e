"""Every test has the key of which secrets are made."""

import pytest

from jobqueue.webhooks import relay
from tests.support.receiver import KEY


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes' key."""
    monkeypatch.setenv("JOBQUEUE_WEBHOOK_KEY", KEY)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that knew of no webhook finds the first one soon."""
    monkeypatch.setattr(relay, "_NONE", 0.1)
