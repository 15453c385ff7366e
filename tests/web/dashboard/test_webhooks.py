"""Webhooks in the dashboard: what of them is shown, and what is done to them."""

import pytest

from jobqueue import App
from tests.support.jobs.working import new_app
from tests.web.dashboard.visiting import READER, visiting

URL = "https://hooks.example/in?token=geheim"


@pytest.fixture
def app(database: str, monkeypatch: pytest.MonkeyPatch) -> App:
    """An App that can make webhooks."""
    monkeypatch.setenv("JOBQUEUE_WEBHOOK_KEY", "k" * 40)
    return new_app(database)


async def test_of_a_url_only_the_host_is_shown(app: App) -> None:
    """The rest may be a secret of the receiver's."""
    async with app, visiting(app) as client:
        hook = await app.webhooks.create(URL, "job.dead")
        listed, page = await client.get("/webhooks"), await client.get(f"/webhooks/{hook.id}")
        assert 200 == page.status_code
        for text in (listed.text, page.text):
            assert "hooks.example" in text
            assert "geheim" not in text


async def test_a_webhook_is_paused_tested_and_deleted(app: App) -> None:
    """Each under the user's name."""
    async with app, visiting(app) as client:
        hook = await app.webhooks.create(URL, "job.dead")
        await client.post("/act/webhooks/pause", data={"id": str(hook.id)})
        assert "paused" == (await app.webhooks.get(hook.id)).state
        await client.post("/act/webhooks/resume", data={"id": str(hook.id)})
        await client.post("/act/webhooks/test", data={"id": str(hook.id)})
        assert "webhook.test" in (await client.get(f"/webhooks/{hook.id}")).text
        await client.post("/act/webhooks/delete", data={"id": str(hook.id)})
        assert 404 == (await client.get(f"/webhooks/{hook.id}")).status_code
        assert {"ada"} == {entry.who for entry in await app.audit.list()}


async def test_who_may_only_look_sees_no_button(app: App) -> None:
    """And changes nothing."""
    async with app, visiting(app, READER) as client:
        hook = await app.webhooks.create(URL, "job.dead")
        assert "/act/" not in (await client.get(f"/webhooks/{hook.id}")).text
        assert 403 == (await client.post("/act/webhooks/delete", data={"id": str(hook.id)})).status_code
