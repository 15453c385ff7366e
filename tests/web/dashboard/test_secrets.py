"""Over the whole dashboard: what may not be seen is nowhere, and no name does anything."""

from collections.abc import AsyncIterator

import httpx
import pytest

from jobqueue.web import Access
from tests.web.dashboard.loaded import MARK, NAMES, ODD, QUEUE, SECRET, Loaded, Scripts, answers, loaded, site_of
from tests.web.dashboard.visiting import OPERATOR, visiting

OPERATES = Access("bob", operate=True)
MAILS = Access("eve", operate=True, payloads=True, queues=["mail"])


@pytest.fixture
async def shop(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Loaded]:
    """Everything there is."""
    monkeypatch.setenv("JOBQUEUE_WEBHOOK_KEY", "k" * 40)
    async with loaded(database) as shop:
        yield shop


def every_path(shop: Loaded, client: httpx.AsyncClient) -> list[str]:
    site = site_of(client)
    return [*shop.paths(site, foreign=False), *shop.paths(site, foreign=True)]


async def test_no_secret_is_shown_to_who_may_not_see_it_and_no_name_does_anything(shop: Loaded) -> None:
    """On every page, in each of its parts, in all answers of the API."""
    texts: list[str] = []
    async with visiting(shop.app, OPERATES) as client:
        async for path, answer in answers(client, every_path(shop, client)):
            assert answer.status_code < 500, path
            assert SECRET not in answer.text, path
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert [] == Scripts(answer.text).found, path
                assert "<script>alert" not in answer.text, path
                texts.append(answer.text)
    for name in NAMES:
        escaped = name.partition("<")[0] + "&lt;script&gt;"
        assert any(escaped in text for text in texts), name


async def test_who_may_see_payloads_sees_them(shop: Loaded) -> None:
    """Or else the test above looks for what is not there."""
    seen: set[str] = set()
    async with visiting(shop.app, OPERATOR) as client:
        async for path, answer in answers(client, every_path(shop, client)):
            assert answer.status_code < 500, path
            if SECRET in answer.text:
                seen.add(path.split("?")[0].removeprefix("/api/v1").split("/")[1])
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert [] == Scripts(answer.text).found, path
    assert seen >= {"jobs", "errors", "bulk", "bulks", "schedules", ""}, seen


async def test_what_is_in_foreign_queues_is_nowhere(shop: Loaded) -> None:
    """Their names, tasks and jobs; and whoever asks for one by its name is told nothing."""
    ids = [*shop.foreign["jobs"], *shop.foreign["bundles"]]
    async with visiting(shop.app, MAILS) as client:
        async for path, answer in answers(client, shop.paths(site_of(client), foreign=False)):
            assert answer.status_code < 500, path
            assert MARK not in answer.text, path
            assert [] == [id for id in ids if id in answer.text], path
        async for path, answer in answers(client, shop.paths(site_of(client), foreign=True)):
            asks = path.startswith("/preview/") and not path.startswith("/preview/jobs/")  # which repeats what was said
            assert asks or answer.status_code in (303, 400, 403, 404), path
            assert SECRET not in answer.text, path


async def test_the_names_are_as_bad_as_they_can_be() -> None:
    """What stands for all of them would run, if it were not escaped."""
    assert {"script", "onload"} <= set(Scripts(f'<a title="{ODD}">{QUEUE}</a>').found)
