"""The first page: what an operator sees at a glance."""

from tests.support.jobs.working import new_app
from tests.web.dashboard.visiting import visiting


async def test_an_empty_installation_says_what_to_do(database: str) -> None:
    """No queue, no worker: the page says how one comes to be."""
    async with new_app(database) as app, visiting(app) as client:
        page = await client.get("/")
    assert 200 == page.status_code
    assert "python -m jobqueue worker" in page.text
