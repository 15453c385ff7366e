"""The dashboard by keyboard, and without JavaScript."""

from pathlib import Path

import pytest

from jobqueue import JobState
from tests.support.waiting import wait_until
from tests.web.dashboard.browser.shop import Shop
from tests.web.dashboard.browser.test_pages import PAGES
from tests.web.dashboard.browser.visitor import MILLISECONDS, Visitor

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOCUSED_ROW = "[...document.querySelectorAll('tr[data-row]')].indexOf(document.activeElement.closest('tr[data-row]'))"
LIVE = ("[data-copy]", "[data-all]", "#hold", "#zone", "#keys", "#keys-help")
"""What only a script brings to life."""
CHECKED = "document.querySelectorAll('input[name=id]:checked').length"


async def test_keys_find_and_go(visitor: Visitor, shots: Path) -> None:
    """`/` is in the search, Escape out of it, `g` and a letter goes; in a field letters are letters."""
    async with visitor.looks(shots) as look:
        await look.goto("/")
        keys = look.page.keyboard
        await keys.press("/")
        assert "find" == await look.page.evaluate("document.activeElement.id")
        await keys.type("gq?/x")
        assert "gq?/x" == await look.page.input_value("#find")
        await keys.press("Escape")
        assert "body" == await look.page.evaluate("document.activeElement.localName")
        await keys.type("gq")
        await look.page.wait_for_url("**/queues", timeout=MILLISECONDS)
        await keys.press("/")
        await keys.type("queue:mail")
        await keys.press("Enter")
        await look.page.wait_for_url("**/jobs?q=queue%3Amail", timeout=MILLISECONDS)
        assert [] == look.complaints


async def test_keys_move_in_a_list_and_select(visitor: Visitor, shots: Path) -> None:
    """`j` and `k` go down and up and stop at the ends, `x` selects, one box selects all."""
    async with visitor.looks(shots) as look:
        await look.goto("/jobs")
        keys = look.page.keyboard
        for key, row in (("j", 0), ("j", 1), ("j", 2), ("k", 1), ("k", 0), ("k", 0)):
            await keys.press(key)
            assert row == await look.page.evaluate(FOCUSED_ROW), key
        await keys.press("x")
        assert 1 == await look.page.evaluate(CHECKED)
        rows = await look.page.locator("tr[data-row]").count()
        await look.page.locator("input[data-all]").check()
        assert rows == await look.page.evaluate(CHECKED)
        await look.page.locator("input[data-all]").uncheck()
        assert 0 == await look.page.evaluate(CHECKED)
        await keys.press("j")
        await keys.press("Enter")
        await look.page.wait_for_url("**/jobs/0*", timeout=MILLISECONDS)


async def test_the_keys_are_told(visitor: Visitor, shots: Path) -> None:
    """`?` shows them, Escape and `?` end that; so does the button for those who do not know of it."""
    async with visitor.looks(shots) as look:
        await look.goto("/")
        box = look.page.locator("#keys-help")
        for opens, closes in (("?", "Escape"), ("?", "?")):
            await look.page.keyboard.press(opens)
            await box.wait_for(state="visible", timeout=MILLISECONDS)
            await look.page.keyboard.press(closes)
            await box.wait_for(state="hidden", timeout=MILLISECONDS)
        await look.page.get_by_role("button", name="Keys").click()
        await box.wait_for(state="visible", timeout=MILLISECONDS)
        await box.get_by_role("button", name="Close").click()
        await box.wait_for(state="hidden", timeout=MILLISECONDS)
        assert [] == look.complaints


async def test_an_id_is_copied(shop: Shop, visitor: Visitor, shots: Path) -> None:
    """By its button, which says so."""
    async with visitor.looks(shots) as look:
        await look.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await look.goto(f"/jobs/{shop.jobs['dead']}")
        await look.page.get_by_role("button", name="Copy id").click()
        await look.page.get_by_role("button", name="Copied").wait_for(timeout=MILLISECONDS)
        assert str(shop.jobs["dead"]) == await look.page.evaluate("navigator.clipboard.readText()")


async def test_payloads_are_shown_in_place(shop: Shop, visitor: Visitor, shots: Path) -> None:
    """The page stays where it is; what looks like HTML is text."""
    async with visitor.looks(shots) as look:
        await look.goto(f"/jobs/{shop.jobs['completed']}")
        await look.page.get_by_role("button", name="Show Result").click()
        await look.page.locator("pre.json").wait_for(timeout=MILLISECONDS)
        assert "onerror=" in await look.text("pre.json")
        assert look.page.url.endswith(str(shop.jobs["completed"]))
        assert [] == look.complaints


# without JavaScript


async def test_pages_are_readable_without_scripts(shop: Shop, visitor: Visitor, shots: Path) -> None:
    """They have their words, and nothing that only a script would bring to life."""
    async with visitor.looks(shots, scripts=False) as look:
        for name, path in PAGES.items():
            assert 200 == await look.goto(path(shop), live=False), name
            assert 1 == await look.page.locator("h1").count(), name
            dead = look.page.locator(",".join(f"{each}:visible" for each in LIVE))
            assert [] == await dead.evaluate_all("all => all.map(each => each.outerHTML)"), name


async def test_single_acts_work_without_scripts(shop: Shop, visitor: Visitor, shots: Path) -> None:
    """Retry, cancel after a preview, pause and resume, defer."""
    async with visitor.looks(shots, scripts=False) as look:
        page = look.page
        await look.goto(f"/jobs/{shop.jobs['dead']}", live=False)
        await page.get_by_role("button", name="Retry").click(timeout=MILLISECONDS)
        assert "1 of 1 changed" in await look.text(".note")
        await look.goto(f"/jobs/{shop.jobs['ready']}", live=False)
        await page.get_by_role("button", name="Cancel…").click(timeout=MILLISECONDS)
        await page.get_by_role("button", name="Cancel 1").click(timeout=MILLISECONDS)
        assert "1 of 1 changed" in await look.text(".note")
        assert JobState.CANCELLED is (await shop.app.jobs.get(shop.jobs["ready"])).state
        await look.goto("/queues", live=False)
        row = page.locator("tr", has=page.get_by_role("link", name="media", exact=True))
        for word, paused in (("Pause", True), ("Resume", False)):
            await row.get_by_role("button", name=word).click(timeout=MILLISECONDS)
            assert "queue." in await look.text(".note")
            assert paused is {each.queue: each.paused for each in await shop.app.queues.stats()}["media"]
        await look.goto("/tasks/send_mail", live=False)
        await page.get_by_label("to *").fill("grace@example.com")
        await page.get_by_role("button", name="Defer", exact=True).click(timeout=MILLISECONDS)

        async def is_sent() -> bool:
            return "send_mail" == (await shop.app.jobs.list(state="completed", limit=1))[0].task

        await wait_until(is_sent, "the job that was deferred is completed")
