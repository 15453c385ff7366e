"""Deliveries end to end: a worker, a real receiver, the log."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobqueue import App
from jobqueue.base.flows.webhook import QUEUE, Webhook
from jobqueue.base.job import JobState
from jobqueue.webhooks.sending import DELAYS
from tests.support.jobs.working import asked
from tests.support.patience import PATIENCE
from tests.support.receiver import KEY, defer, delivered, hooked_app, hurry, receiving, status
from tests.support.secrets import WATCH
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def no_try_comes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one comes after five minutes instead of five seconds: each test says when."""
    monkeypatch.setattr("jobqueue.webhooks.sending.DELAYS", (0.0, *DELAYS[2:], DELAYS[-1]))


async def told(app: Any, count: int, *types: str) -> list[str]:
    """The first so many of these events that the log has, each with its reason."""
    found: list[str] = []
    async with asyncio.timeout(PATIENCE):
        async for event in app.events(after="0", types=types):
            found.append(event.type if event.reason is None else f"{event.type} {event.reason}")
            if len(found) == count:
                break
    return found


async def test_each_event_is_posted_once_and_signed(database: str) -> None:
    """S2-12: one signed POST for each event that is subscribed to, and none for others."""
    app = hooked_app(database)
    async with app, receiving() as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, {"job.dead"})
        secret = await app.webhooks.secret(hook.id)
        await defer(app, "note")
        dead = [await defer(app, "fail", f"MARKERTEXT {number}") for number in range(3)]
        await delivered(app, hook, 3)
        posts = receiver.posts

    assert 3 == len(posts) == len({post.id for post in posts})
    assert {str(job.id) for job in dead} == {post.json["data"]["job_id"] for post in posts}
    for post in posts:
        assert post.is_signed_by(secret)
        assert ("job.dead", "fail", "RuntimeError") == (
            post.json["type"], post.json["data"]["task"], post.json["data"]["error"]
        )  # fmt: skip
        assert b"MARKER" not in post.body
        assert "/hook?token=SECRETMARKER" == post.target


async def test_a_delivery_is_tried_again_under_its_id(database: str) -> None:
    """S2-13, S2-14, S2-40: 503, 503, 200: three tries with one id, and the delivery shows tries and last status."""
    app = hooked_app(database)
    async with app, receiving(status(503), status(503), status(200)) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await defer(app, "note")
        for count in (1, 2):
            await receiver.has(count)
            await hurry(app, hook)
        (delivery,) = await delivered(app, hook)
        job = await app.jobs.get(delivery.id)
        after = await app.webhooks.get(hook.id)
        events = await told(app, 1, "webhook.delivered", "webhook.failed", "webhook.disabled")

    assert 3 == len(receiver.posts)
    assert {str(delivery.id)} == {post.id for post in receiver.posts}
    assert 1 == len({post.body for post in receiver.posts})
    assert (3, 200, None, "job.completed") == (delivery.tries, delivery.status, delivery.error, delivery.event)
    assert [{"status": 503}] * 2 == [error.data for error in job.errors]
    assert ["webhook.delivered"] == events
    assert (0, None) == (after.failures, after.failing_since)


@pytest.mark.parametrize("code", [400, 404, 301, 308])
async def test_what_cannot_get_better_is_tried_once(database: str, code: int) -> None:
    """S2-13: a status that another try will not change ends the delivery; a redirect is one, and not followed."""
    app = hooked_app(database)
    async with app, receiving() as elsewhere, receiving() as receiver, app.worker():
        receiver.answers_with(status(code, f"location: {elsewhere.url}"))
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await defer(app, "note")
        (delivery,) = await delivered(app, hook, state=JobState.DEAD)
        events = await told(app, 1, "webhook.delivered", "webhook.failed", "webhook.disabled")

    assert (1, code, 0) == (len(receiver.posts), delivery.status, len(elsewhere.posts))
    assert (1, f"the receiver answered {code}") == (delivery.tries, delivery.error)
    assert ["webhook.failed fatal"] == events


async def test_a_receiver_that_is_gone_is_left_alone(database: str) -> None:
    """410 disables the webhook: what waits for it is cancelled, the log says so once, and nothing more is made."""
    app = hooked_app(database)
    async with app, receiving(status(410)) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await defer(app, "note")
        await delivered(app, hook, state=JobState.DEAD)
        after = await app.webhooks.get(hook.id)
        test = await app.webhooks.test(hook.id)
        ended = await app.sender.wait_final(test, PATIENCE)
        events = await told(app, 2, "webhook.failed", "webhook.disabled")

        receiver.answers_with(status(200))
        await app.webhooks.resume(hook.id)
        await defer(app, "note")
        await delivered(app, hook)

    said = [facts for _, _, event, facts in WATCH.lines if event == "webhook.disabled"]
    assert [{"webhook": str(hook.id), "host": f"127.0.0.1:{receiver.port}", "reason": "gone"}] == said
    assert ("disabled", "gone") == (after.state, after.disabled_reason)
    assert (JobState.CANCELLED, "the webhook is disabled") == (ended.state, ended.reason)
    assert ["webhook.disabled gone", "webhook.failed fatal"] == events
    assert 2 == len(receiver.posts)


async def has_failed(app: App, hook: Webhook, tries: int) -> None:
    """Wait until the delivery's last try of so many is noted: the receiver has answered it before that."""

    async def waits() -> bool:
        deliveries = await app.webhooks.deliveries(hook.id, state=JobState.SCHEDULED)
        return [tries] == [delivery.tries for delivery in deliveries]

    await wait_until(waits, f"try {tries} has failed, and the next one is waited for")


async def test_failures_only_for_three_days_disable(database: str) -> None:
    """A receiver that fails is given up after three days without one success, and not before."""
    app = hooked_app(database)
    async with app, receiving(status(500)) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await defer(app, "note")
        await receiver.has(1)
        await hurry(app, hook)
        await has_failed(app, hook, 2)
        failing = await app.webhooks.get(hook.id)
        await asked(database, "update jobqueue.webhook set failing_since = now() - interval '73 hours'")
        await hurry(app, hook)
        (delivery,) = await delivered(app, hook, state=JobState.DEAD)
        after = await app.webhooks.get(hook.id)

    assert "failing" == failing.state
    assert ("disabled", "failing", 3) == (after.state, after.disabled_reason, delivery.tries)


async def test_a_receiver_says_when_to_try_again(database: str) -> None:
    """S2-13: Retry-After is kept, in seconds and as a date, also where the table would come back sooner."""
    later = (datetime.now(UTC) + timedelta(hours=3)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    app = hooked_app(database)
    answers = status(429, "retry-after: 7000"), status(503, f"Retry-After: {later}"), status(200)
    async with app, receiving(*answers) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await defer(app, "note")
        waits = []
        for count in (1, 2):
            await receiver.has(count)
            (waiting,) = await delivered(app, hook, state=JobState.SCHEDULED)
            assert waiting.next_try is not None
            waits.append((waiting.next_try - datetime.now(UTC)).total_seconds())
            await hurry(app, hook)
        await delivered(app, hook)

    assert 6_000 < waits[0] <= 7_000
    assert 9_000 < waits[1] <= 10_800


async def test_no_webhook_hears_of_deliveries(database: str) -> None:
    """A webhook for everything, whose receiver fails, is told of jobs alone: its own retries make no deliveries."""
    app = hooked_app(database)
    async with app, receiving(status(500), status(200)) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url)
        await defer(app, "note", "first")
        await receiver.has(1)
        await hurry(app, hook)
        await delivered(app, hook)
        await defer(app, "note", "second")
        await delivered(app, hook, 2)

    assert ["note"] * 3 == [post.json["data"]["task"] for post in receiver.posts]


async def test_only_what_was_chosen(database: str) -> None:
    """S2-12: a webhook of a queue, a task, an origin or a job hears of nothing else."""
    app = hooked_app(database)
    async with app, receiving() as receiver, app.worker():
        chosen = await defer(app, "note", "the one")
        await app.sender.wait_final(chosen.id, PATIENCE)
        by_queue = await app.webhooks.create(receiver.url, queue="mail")
        by_task = await app.webhooks.create(receiver.url, task="fail")
        by_origin = await app.webhooks.create(receiver.url, origin="nobody")
        by_job = await app.webhooks.create(receiver.url, job=chosen.id)
        await defer(app, "note")
        dead = await defer(app, "fail")
        for hook in (by_queue, by_task):
            await delivered(app, hook)
        await app.jobs.delete(chosen.id)
        await delivered(app, by_job)
        others = await app.webhooks.deliveries(by_origin.id)

    assert [] == others
    about = {post.json["data"]["job_id"] for post in receiver.posts}
    assert {str(dead.id), str(chosen.id)} == about


async def test_what_is_paused_waits_in_the_log(database: str) -> None:
    """Nothing is posted while a webhook is paused, and nothing is lost by it."""
    app = hooked_app(database)
    async with app, receiving() as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        other = await app.webhooks.create(receiver.url, "job.completed")
        await app.webhooks.pause(hook.id)
        await defer(app, "note")
        await delivered(app, other)
        waiting = await app.webhooks.deliveries(hook.id)
        await app.webhooks.resume(hook.id)
        await delivered(app, hook)

    assert [] == waiting
    assert 2 == len(receiver.posts)


async def test_a_new_secret_signs_beside_the_old_one(database: str) -> None:
    """For a day after a rotation receivers may have either secret; then only the new one signs."""
    app = hooked_app(database)
    async with app, receiving() as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        old = await app.webhooks.secret(hook.id)
        new = await app.webhooks.rotate(hook.id)
        await defer(app, "note")
        await receiver.has(1)
        await asked(database, "update jobqueue.webhook set rotated_at = now() - interval '25 hours'")
        await defer(app, "note")
        first, second = await receiver.has(2)
        await delivered(app, hook, 2)

    assert old != new
    assert (True, True) == (first.is_signed_by(old), first.is_signed_by(new))
    assert (False, True) == (second.is_signed_by(old), second.is_signed_by(new))


async def test_nothing_secret_is_stored(database: str) -> None:
    """S2-12: neither key nor secret is anywhere in the database."""
    app = hooked_app(database)
    async with app, receiving() as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        secret = await app.webhooks.secret(hook.id)
        await defer(app, "note")
        await delivered(app, hook)
    for table in ("webhook", "job_archive", "event"):
        text = await asked(database, f"select string_agg(t::text, ' ') from jobqueue.{table} t")
        assert secret.removeprefix("whsec_") not in text
        assert "a key of the tests" not in text


async def test_what_was_lost_is_posted_again(database: str) -> None:
    """Deliveries are sent again on demand, the dead ones by default, under the same id."""
    app = hooked_app(database)
    async with app, receiving(status(400), status(200)) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await defer(app, "note")
        (dead,) = await delivered(app, hook, state=JobState.DEAD)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        none = await app.webhooks.redeliver(hook.id, since=tomorrow)
        some = await app.webhooks.redeliver(hook.id, since=tomorrow - timedelta(days=2))
        await delivered(app, hook)
        await app.webhooks.redeliver(hook.id, state="completed")
        await receiver.has(3)
        await delivered(app, hook)

    assert ([], [dead.id]) == (list(none.each), list(some.each))
    assert {str(dead.id)} == {post.id for post in receiver.posts}


async def test_a_missing_extra_is_one_sentence(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker without what the extra brings says so, and another one may deliver later."""
    monkeypatch.setitem(sys.modules, "httpcore", None)
    monkeypatch.delitem(sys.modules, "jobqueue.webhooks.dialling", raising=False)
    monkeypatch.delattr("jobqueue.webhooks.dialling", raising=False)
    app = hooked_app(database)
    async with app, receiving() as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await defer(app, "note")
        (waiting,) = await delivered(app, hook, state=JobState.SCHEDULED)
        monkeypatch.undo()
        monkeypatch.setenv("JOBQUEUE_WEBHOOK_KEY", KEY)
        await hurry(app, hook)
        (delivery,) = await delivered(app, hook)

    assert 'webhooks: httpcore is not installed; pip install "jobqueue[webhooks]"' == waiting.error
    assert 2 == delivery.tries


async def test_a_deleted_webhook_leaves_nothing_behind(database: str) -> None:
    """Its deliveries that wait are cancelled with it."""
    app = hooked_app(database)
    async with app, receiving(status(503)) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await defer(app, "note")
        await receiver.has(1)
        await delivered(app, hook, state=JobState.SCHEDULED)
        await app.webhooks.delete(hook.id)

        async def none_waits() -> bool:
            return not (await app.jobs.list(queue=QUEUE, state=["ready", "scheduled", "running"]))

        await wait_until(none_waits, "no delivery waits")
        assert [] == list(await app.webhooks.list())
