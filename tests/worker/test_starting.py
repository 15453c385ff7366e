"""What a worker takes when it starts."""

from typing import Any

import pytest
from anyio.abc import TaskStatus

from jobqueue.base.service import Planner, Service
from jobqueue.worker.supervisor import Supervisor
from tests.support.jobs.working import new_app
from tests.support.waiting import wait_until


async def test_those_that_look_now_and_then_look_in_turn(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each begins when the one before has had its first look: one connection is enough for all of them."""
    told: list[tuple[str, Service]] = []
    serve = Supervisor._service

    async def watched(self: Supervisor, service: Service, *, task_status: TaskStatus[None]) -> None:
        class Told:
            def started(self, value: Any = None) -> None:
                told.append(("has looked", service))
                task_status.started()

        told.append(("begins", service))
        await serve(self, service, task_status=Told())

    monkeypatch.setattr(Supervisor, "_service", watched)
    async with new_app(database) as app, app.worker():
        await wait_until(
            lambda: told[-1][0] == "has looked" and isinstance(told[-1][1], Planner), "the last one has looked"
        )
    seen = list(dict.fromkeys(service for _, service in told))
    assert [(word, service) for service in seen for word in ("begins", "has looked")] == told
    assert len(seen) >= 5
