"""Reads the pages of a worker: over HTTP from a thread, or straight from the ASGI app."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp

from jobqueue.web.address import Address
from jobqueue.web.serving import Serving
from tests.support.patience import PATIENCE


@dataclass(frozen=True)
class Page:
    """What came back."""

    status: int
    text: str

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        """The samples of one metric, by the values of their labels in the order of the labels' names."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == f"jobqueue_{name}"
        }

    def value(self, name: str) -> float:
        """The one sample of a metric without labels."""
        return self.values(name)[()]


async def get(app: ASGIApp, path: str, method: str = "GET", **headers: str) -> Page:
    """Ask the app itself."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as client:
        answer = await client.request(method, path, headers=headers)
    return Page(answer.status_code, answer.text)


def fetch(url: str, timeout: float = PATIENCE) -> Page:
    """Ask over HTTP; blocks the thread that calls."""
    answer = httpx.get(url, timeout=timeout, trust_env=False)
    return Page(answer.status_code, answer.text)


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Serve it on a free port, in a thread of its own; gives its URL."""
    sockets = Address("127.0.0.1", 0).bind()
    serving = Serving(app, sockets)
    serving.start()
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        serving.stop()
