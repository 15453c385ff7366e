"""Over the whole dashboard: what may not be seen is nowhere, and no name does anything."""

from collections.abc import AsyncIterator

import httpx
import pytest

from jobqueue.web import Access
from tests.web.dashboard.loaded import MARK, NAMES, ODD, QUEUE, SECRET, Loaded, Scripts, answers, loaded, site_of
from tests.web.dashboard.visiting import OPERATOR, together

OPERATES = Access("bob", operate=True)
MAILS = Access("eve", operate=True, payloads=True, queues=["mail"])


@pytest.fixture
async def shop(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Loaded]:
    """Everything there is."""
    monkeypatch.setenv("JOBQUEUE_WEBHOOK_KEY", "k" * 40)
    async with loaded(database) as shop:
        yield shop


async def test_each_sees_what_he_may_and_no_name_does_anything(shop: Loaded) -> None:
    """On every page, in each of its parts, in all answers of the API; also of what was just read for somebody else.

    One may see all of it, or else the others would look for what is not there; to one payloads are not shown, and to
    one only the queue `mail`: neither names, tasks and jobs of others, nor that there is what is asked for by its name.
    """
    texts: list[str] = []
    seen: set[str] = set()
    ids = [*shop.foreign["jobs"], *shop.foreign["bundles"]]
    async with together(shop.app, OPERATOR, OPERATES, MAILS) as (all_of_it, no_payloads, mails):
        for foreign in (False, True):
            for asked in shop.paths(site_of(mails), foreign=foreign):
                async for path, answer in answers(all_of_it, asked):
                    nothing_runs(path, answer)
                    if SECRET in answer.text:
                        seen.add(path.split("?")[0].removeprefix("/api/v1").split("/")[1])
                async for path, answer in answers(no_payloads, asked):
                    nothing_runs(path, answer)
                    assert SECRET not in answer.text, path
                    texts.append(answer.text)
                async for path, answer in answers(mails, asked):
                    assert answer.status_code < 500, path
                    if foreign:
                        asks = path.startswith("/preview/") and not path.startswith("/preview/jobs/")  # as was said
                        assert asks or answer.status_code in (303, 400, 403, 404), path
                        assert SECRET not in answer.text, path
                    else:
                        assert MARK not in answer.text, path
                        assert [] == [id for id in ids if id in answer.text], path
    assert seen >= {"jobs", "errors", "bulk", "bulks", "schedules", ""}, seen
    for name in NAMES:
        escaped = name.partition("<")[0] + "&lt;script&gt;"
        assert any(escaped in text for text in texts), name


def nothing_runs(path: str, answer: httpx.Response) -> None:
    """It is no fault, and no page with a script of somebody else's."""
    assert answer.status_code < 500, path
    if answer.headers.get("content-type", "").startswith("text/html"):
        assert [] == Scripts(answer.text).found, path
        assert "<script>alert" not in answer.text, path


async def test_the_names_are_as_bad_as_they_can_be() -> None:
    """What stands for all of them would run, if it were not escaped."""
    assert {"script", "onload"} <= set(Scripts(f'<a title="{ODD}">{QUEUE}</a>').found)
