"""Each page in a real browser, light, dark and on a phone, with names and values that would break a careless one."""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.web.dashboard.browser.shop import LONG, ODD, Shop
from tests.web.dashboard.browser.visitor import VIEWS, Look, Visitor, axe

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES: dict[str, Callable[[Shop], str]] = {
    "overview": lambda shop: "/",
    "queues": lambda shop: "/queues",
    "queue": lambda shop: "/queues/billing",
    "odd queue": lambda shop: f"/queues/{quote(ODD, safe='')}",
    "long queue": lambda shop: f"/queues/{LONG}",
    "jobs": lambda shop: "/jobs",
    "jobs found": lambda shop: "/jobs?state=dead&queue=billing",
    "no jobs found": lambda shop: "/jobs?queue=nowhere",
    "completed job": lambda shop: f"/jobs/{shop.jobs['completed']}",
    "dead job": lambda shop: f"/jobs/{shop.jobs['dead']}",
    "running job": lambda shop: f"/jobs/{shop.jobs['running']}",
    "phased job": lambda shop: f"/jobs/{shop.jobs['phased']}",
    "blocked job": lambda shop: f"/jobs/{shop.jobs['blocked']}",
    "tasks": lambda shop: "/tasks",
    "task": lambda shop: "/tasks/send_mail",
    "odd task": lambda shop: f"/tasks/{quote(ODD, safe='')}",
    "workers": lambda shop: "/workers",
    "worker": lambda shop: f"/workers/{shop.worker}",
    "schedules": lambda shop: "/schedules",
    "schedule": lambda shop: f"/schedules/{quote(ODD, safe='')}",
    "limits": lambda shop: "/limits",
    "limit": lambda shop: "/limits/charge",
    "errors": lambda shop: "/errors",
    "error": lambda shop: f"/errors/{shop.fingerprint}",
    "bulk actions": lambda shop: "/bulk",
    "bulk action": lambda shop: f"/bulk/{shop.bulk}",
    "bundles": lambda shop: "/bundles",
    "bundle": lambda shop: f"/bundles/{shop.bundle}",
    "webhooks": lambda shop: "/webhooks",
    "webhook": lambda shop: f"/webhooks/{shop.webhook}",
    "audit": lambda shop: "/audit",
    "preview": lambda shop: f"/preview/jobs/cancel?id={shop.jobs['ready']}",
    "confirm": lambda shop: f"/preview/webhooks/delete?id={shop.webhook}",
}
RULES = {
    "light": {},
    "dark": {"runOnly": ["color-contrast"]},
    "phone": {"rules": {"color-contrast": {"enabled": False}}},
}
"""What may differ from one view to the next: all rules each time would be half of what these tests cost."""
FINDINGS = """options => axe.run(document, {resultTypes: ['violations'], ...options}).then(
  ({violations}) => violations.map(
  each => `${each.id} (${each.impact}): ${each.nodes.map(node => node.html.slice(0, 200)).join(' | ')}`))"""
WATCH_FOCUS = """() => {
  const all = [...document.querySelectorAll('a[href], button, input, select, textarea, summary')].filter(
    each => !each.disabled && each.type !== 'hidden' && each.checkVisibility({visibilityProperty: true}));
  window.unreached = new Set(all);
  window.unseen = [];
  addEventListener('focusin', ({target}) => {
    window.unreached.delete(target);
    const style = getComputedStyle(target);
    if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 1) window.unseen.push(target.outerHTML);
  });
  return all.length;
}"""


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_is_sound(name: str, shop: Shop, visitor: Visitor, shots: Path) -> None:
    """Nothing in the console, nothing from elsewhere, no sideways scroll, nothing that axe finds, Tab reaches all."""
    async with visitor.looks(shots) as look:
        assert 200 == await look.goto(PAGES[name](shop))
        await look.page.evaluate(axe())
        for view, (_, width) in VIEWS.items():
            await look.turn(view)
            assert width >= await look.page.evaluate("document.documentElement.scrollWidth"), f"sideways: {view}"
            assert [] == await look.page.evaluate(FINDINGS, RULES[view]), view
            if os.environ.get("JOBQUEUE_SHOTS"):
                await look.picture(view)
        await look.turn("light")
        await reach_every_control(look)
        assert [] == look.complaints


async def reach_every_control(look: Look) -> None:
    """By Tab, each link, button and field, one after the other, and each shows that it has the focus."""
    controls = await look.page.evaluate(WATCH_FOCUS)
    for pressed in range(1, controls + 21):  # what scrolls is reached as well
        await look.page.keyboard.press("Tab")
        if pressed >= controls and not await look.page.evaluate("window.unreached.size"):
            break
    assert [] == await look.page.evaluate("[...window.unreached].map(each => each.outerHTML)")
    assert [] == await look.page.evaluate("window.unseen")
