"""Receivers that misbehave cost their own delivery, and nothing else."""

import asyncio

import pytest

from jobqueue.base.job import JobState
from jobqueue.webhooks import sending
from tests.support.receiver import (
    Answer,
    defer,
    delivered,
    drips,
    ends_late,
    hangs,
    hooked_app,
    informs,
    raw,
    receiving,
    status,
)

QUICK = 1.0
"""Seconds that a try may take here."""
CHUNK = b"x" * 65536


class Flood:
    """A body of 100 MB, whole or for ever; remembers how much could be written."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.written = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.head)
        for _ in range(1600):
            writer.write(CHUNK)
            await writer.drain()
            self.written += len(CHUNK)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (hangs, "no answer within"),
        (drips, "no answer within"),
        (informs, "no answer within"),
        (raw(b""), "RemoteProtocolError"),
        (raw(b"\x00\xff garbage\r\n\r\n" * 100), "RemoteProtocolError"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000 + b"\r\n"), "RemoteProtocolError"),
    ],
    ids=["hangs", "drips", "informs", "hangs up", "garbage", "too much of a head"],
)
async def test_no_answer_is_a_failure_like_any_other(
    database: str, monkeypatch: pytest.MonkeyPatch, answer: Answer, told: str
) -> None:
    """S2-13: what is no answer is tried again; another receiver's delivery goes out meanwhile."""
    if told == "no answer within":  # the others end by themselves, and a busy machine may need longer for that
        monkeypatch.setattr(sending, "LIMIT", QUICK)
    app = hooked_app(database)
    async with app, receiving(answer) as bad, receiving() as good, app.worker():
        first = await app.webhooks.create(bad.url, "job.completed")
        second = await app.webhooks.create(good.url, "job.completed")
        await defer(app, "note")
        await delivered(app, second)
        (delivery,) = await delivered(app, first, state=JobState.SCHEDULED)

    assert (1, None) == (delivery.tries, delivery.status)
    assert delivery.error is not None
    assert told in delivery.error
    assert "SECRETMARKER" not in delivery.error


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n",
    ],
    ids=["100 MB", "a bomb"],
)
async def test_an_answer_is_not_read_to_its_end(database: str, head: bytes) -> None:
    """The status counts; of 100 MB behind it only some are read, and nothing is unpacked."""
    flood = Flood(head)
    app = hooked_app(database)
    async with app, receiving(flood) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await defer(app, "note")
        (delivery,) = await delivered(app, hook)

    assert 200 == delivery.status
    assert flood.written < 20 << 20, "what the sockets hold, and no more"


async def test_a_body_that_drips_does_not_change_the_answer(database: str) -> None:
    """Once the status is known the rest gets a moment, and then no more."""

    app = hooked_app(database)
    async with app, receiving(ends_late) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await defer(app, "note")
        (delivery,) = await delivered(app, hook)

    assert (1, 200) == (delivery.tries, delivery.status)


async def test_nobody_there(database: str) -> None:
    """S2-13: a connection that is refused is tried again."""
    app = hooked_app(database)
    async with app, receiving() as receiver:
        url = receiver.url
    async with app, app.worker():
        hook = await app.webhooks.create(url, "job.completed")
        await defer(app, "note")
        (delivery,) = await delivered(app, hook, state=JobState.SCHEDULED)

    assert (1, "no answer: ConnectError") == (delivery.tries, delivery.error)


async def test_a_receiver_s_words_stay_there(database: str) -> None:
    """Nothing of what a receiver answers is kept but the status."""
    app = hooked_app(database)
    async with app, receiving(status(500, body=b"REPLYMARKER")) as receiver, app.worker():
        hook = await app.webhooks.create(receiver.url, "job.completed")
        await defer(app, "note")
        (delivery,) = await delivered(app, hook, state=JobState.SCHEDULED)
        job = await app.jobs.get(delivery.id)

    assert "MARKER" not in repr(delivery) + "".join(error.message + error.traceback for error in job.errors)
