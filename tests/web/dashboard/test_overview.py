"""The first page: what an operator sees at a glance."""

import re

from jobqueue.web import Access
from tests.support.jobs.working import new_app
from tests.web.dashboard.visiting import visiting


async def test_an_empty_installation_says_what_to_do(database: str) -> None:
    """No queue, no worker: the page says how one comes to be."""
    async with new_app(database) as app, visiting(app) as client:
        page = await client.get("/")
    assert 200 == page.status_code
    assert "python -m jobqueue worker" in page.text


async def test_the_menu_counts_what_may_be_seen(database: str) -> None:
    """Who sees some queues is told of these alone. Before the first look there are no numbers: none is asked for."""
    app = new_app(database)

    @app.task(queue="mail")
    async def send() -> None: ...

    @app.task(queue="bank")
    async def charge() -> None: ...

    async with app, app.worker(queues=["other"]):
        await send.defer()
        await charge.defer()
        for access, counted in (
            (Access("ada"), {"queues": "2", "errors": "", "tasks": "2", "workers": "1"}),
            (Access("eve", queues=["mail"]), {"queues": "1", "errors": "", "tasks": "1", "workers": ""}),
        ):
            async with visiting(app, access) as client:
                assert "PostgreSQL" not in (await client.get("/audit")).text
                page = (await client.get("/")).text
                assert counted == dict(re.findall(r'data-live="menu\.(\w+)">([^<]*)<', page))
                assert "<br>PostgreSQL 1" in page
