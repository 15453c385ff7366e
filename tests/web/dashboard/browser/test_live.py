"""Open pages stay up to date by themselves, and take nothing away from who reads them."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from jobqueue.web.dashboard.live import looker
from jobqueue.web.dashboard.pages import live
from jobqueue.web.dashboard.showing import static
from tests.support.patience import NEVER
from tests.support.waiting import wait_until
from tests.web.dashboard.browser.shop import LONG, Shop
from tests.web.dashboard.browser.visitor import MILLISECONDS, Served, Visitor

pytestmark = pytest.mark.asyncio(loop_scope="module")

HIDE = """hidden => {
  Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
  document.dispatchEvent(new Event('visibilitychange'));
}"""
"""A headless browser shows every page; this is what one in the background is told."""
TOP = "document.querySelector('#part-queues h2').getBoundingClientRect().top"
CHART = "document.querySelector('[data-name=flow] canvas').toDataURL()"
WATCH_SIGN = """() => {
  const sign = document.getElementById('live');
  window.states = new Set([sign.dataset.state]);
  new MutationObserver(() => window.states.add(sign.dataset.state)).observe(sign, {attributes: true});
}"""


READY, QUEUES = '[data-live="queue.reports.ready"]', '[data-live="menu.queues"]'


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Looks, and what a page does after some seconds, come far more often than a reader needs: tests wait for them."""
    read = static._read

    def hurried(name: str) -> tuple[str, bytes]:
        mark, content = read(name)
        if name == "live.js":
            for slowly in (b"RENEW = 3000", b"POLL = 5000"):
                assert 1 == content.count(slowly)
                content = content.replace(slowly, slowly[:-1])
        return mark, content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(static, "_read", hurried)
        patch.setattr(looker, "INTERVAL", 0.2)
        patch.setattr(live, "RETRY", 50)
        yield


def shows(selector: str, number: int) -> str:
    """Whether it stands there."""
    return f"'{number}' === document.querySelector('{selector}').textContent"


async def test_numbers_follow_what_happens(shop: Shop, visitor: Visitor, shots: Path) -> None:
    """In the page itself, and in the menu."""
    async with visitor.looks(shots) as look:
        await look.goto("/queues")
        ready = int(await look.text(READY))
        await _defer(shop, "reports", 3)
        await look.becomes(shows(READY, ready + 3), "the page shows three more that are ready")
        queues = int(await look.text(QUEUES))
        await _defer(shop, "quite new", 1)
        await look.becomes(shows(QUEUES, queues + 1), "the menu counts another queue")
        assert [] == look.complaints


async def test_a_part_is_renewed_under_the_readers_eyes(shop: Shop, visitor: Visitor, shots: Path) -> None:
    """What has the focus keeps it, a selection stays, so do the places that were scrolled to."""
    async with visitor.looks(shots, view="phone") as look:
        await look.goto("/")
        await look.page.evaluate("""() => {
          const part = document.getElementById('part-queues'), row = part.querySelector('tr[data-row]');
          row.querySelector('a').focus();
          document.activeElement.mark = 'mine';
          part.querySelector('.scroll').scrollLeft = 60;
          scrollTo(0, 700);
          getSelection().selectAllChildren(part.querySelector('h2'));
        }""")
        top = await look.page.evaluate(TOP)
        await shop.app.queues.pause("mail", by="ada")
        badge = "#part-queues tr:has(a[href='/queues/mail']) .badge"
        await look.page.locator(badge, has_text="paused").wait_for(timeout=MILLISECONDS)
        assert ["mine", 60, "Queues"] == await look.page.evaluate("""[
          document.activeElement.mark, document.querySelector('#part-queues .scroll').scrollLeft,
          getSelection().toString()]""")
        assert top == pytest.approx(await look.page.evaluate(TOP), abs=2), "whatever came to stand above it"

        await shop.app.queues.resume("mail", by="ada")
        await look.page.locator(badge, has_text="paused").wait_for(state="hidden", timeout=MILLISECONDS)
        assert [] == look.complaints


async def test_an_open_overview_tells_of_new_trouble(
    shop: Shop, visitor: Visitor, shots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of what workers have noted, and not of what is over; the chart goes on with the time."""
    monkeypatch.setattr("jobqueue.web.dashboard.reading.recent._KEPT", 0.1)
    async with (
        visitor.looks(shots) as look,
        await psycopg.AsyncConnection.connect(shop.dsn, autocommit=True) as connection,
    ):
        await look.goto("/")
        trouble = look.page.locator("#part-attention", has_text="3 tries in a row have failed")
        assert 0 == await trouble.count()
        await look.page.evaluate(f"window.before = {CHART}")
        await connection.execute("update jobqueue.webhook set failures = 3, failing_since = now()")
        await connection.execute("update jobqueue.minute set completed = 7 * completed where queue = ''")
        await trouble.wait_for(timeout=MILLISECONDS)
        await look.becomes(f"window.before !== {CHART}", "the chart shows what was noted meanwhile")
        await connection.execute("update jobqueue.webhook set failures = 0, failing_since = null")
        await trouble.wait_for(state="detached", timeout=MILLISECONDS)
        assert [] == look.complaints


async def test_what_was_opened_stays_open(shop: Shop, visitor: Visitor, shots: Path) -> None:
    """A bundle's graph as text, while the bundle goes on."""
    async with visitor.looks(shots) as look:
        await look.goto(f"/bundles/{shop.bundle}")
        await look.page.get_by_text("As text").click()
        before = await look.text("#part-bundle .figure")
        second = (await shop.app.bundles.members(shop.bundle, state="ready"))[0]
        await shop.app.jobs.cancel(second.id, by="ada")
        await look.becomes(
            "!document.querySelectorAll('#part-bundle .figure')[2].textContent.trim().startsWith('0 ')",
            "the bundle's page counts the job that was cancelled",
        )
        assert await look.page.get_by_text("As text").evaluate("each => each.parentElement.open")
        assert before == await look.text("#part-bundle .figure")


async def test_nothing_moves_on_hold(shop: Shop, visitor: Visitor, shots: Path) -> None:
    """Another page shows it, this one not before it is told to go on."""
    async with visitor.looks(shots) as look, visitor.looks(shots) as other:
        for each in (look, other):
            await each.goto("/queues")
        ready = int(await look.text(READY))
        await look.page.get_by_role("button", name="Hold").click()
        assert "on hold" == await look.text("#live-words")
        await _defer(shop, "reports", 1)
        await other.becomes(shows(READY, ready + 1), "another page shows what happens")
        assert str(ready) == await look.text(READY)
        await look.page.get_by_role("button", name="Go on").click()
        await look.becomes(shows(READY, ready + 1), "the page goes on")


async def test_a_selection_is_not_taken_away(shop: Shop, visitor: Visitor, shots: Path) -> None:
    """A list in which a row is selected stays as it is until nothing is."""
    async with visitor.looks(shots) as look:
        await look.goto("/jobs?queue=reports")
        box, rows = look.page.locator("input[name=id]").first, "document.querySelectorAll('tr[data-row]').length"
        await box.check()
        before = await look.page.evaluate(rows)
        await look.page.evaluate("""() => {
          window.looks = 0;
          document.addEventListener('jobqueue:look', () => { window.looks += 1; });
        }""")
        await _defer(shop, "reports", 1)
        await look.becomes("window.looks > 4", "it has been looked at often enough to renew the list")
        assert before == await look.page.evaluate(rows)
        await box.uncheck()
        await look.becomes(f"{rows} === {before + 1}", "the list has the new job")


async def test_a_page_in_the_background_watches_nothing(
    served: Served, visitor: Visitor, shots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream is closed; seen again, it has another."""
    monkeypatch.setattr("jobqueue.web.sse.LIFE", NEVER)  # none ends by itself
    async with visitor.looks(shots) as look:
        await wait_until(lambda: not served.streams, "no other page watches")
        await look.goto("/")
        assert 1 == served.streams
        await look.page.evaluate(HIDE, True)
        await wait_until(lambda: not served.streams, "the stream is closed")
        await look.page.evaluate(HIDE, False)
        await wait_until(lambda: served.streams, "the stream is open again")


async def test_the_end_of_a_stream_is_not_seen(
    served: Served, visitor: Visitor, shots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each lives for some seconds; the next one follows, and the sign says live all the time."""
    monkeypatch.setattr("jobqueue.web.sse.LIFE", 0.5)
    async with visitor.looks(shots) as look:
        await look.goto("/")
        await look.page.evaluate(WATCH_SIGN)
        begun = served.begun
        await wait_until(lambda: served.begun >= begun + 4, "four more streams were opened")
        assert ["on"] == await look.page.evaluate("[...window.states]")
        assert [] == look.complaints


async def test_a_server_that_was_away_is_found_again(
    shop: Shop, served: Served, visitor: Visitor, shots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the sign says that it is not reachable; then the page goes on by itself, with a stream."""
    monkeypatch.setattr("jobqueue.web.sse.LIFE", 0.5)  # the stream that is open when the server goes ends by itself
    async with visitor.looks(shots) as look:
        await look.goto("/queues")
        failed: list[str] = []
        look.page.on("requestfailed", lambda request: failed.append(request.url))
        await served.away()
        await look.page.locator("#live[data-state=late]").wait_for(timeout=MILLISECONDS)
        assert "not reachable" == await look.text("#live-words")
        ready = int(await look.text(READY))
        await _defer(shop, "reports", 2)
        await wait_until(lambda: f"{look.url}/live/now" in failed, "it has given up streams and asks now and then")
        await served.back()
        await look.becomes(shows(READY, ready + 2), "the page shows what happened meanwhile")
        await wait_until(lambda: served.streams, "it has a stream again")
        assert "live" == await look.text("#live-words")


async def _defer(shop: Shop, queue: str, number: int) -> None:
    """Jobs that nobody runs."""
    task = shop.app.registry.find(LONG)
    assert task is not None
    for _ in range(number):
        await task.options(queue=queue, delay=0 if queue == "reports" else 3600).defer("x")
