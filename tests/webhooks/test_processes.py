"""Deliveries by real worker processes, stopped and killed."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.support.programs.processes import command_line
from tests.support.receiver import KEY, defer, delivered, hooked_app, receiving, status

SHOP = """
import os
from jobqueue import App, Settings

app = App(os.environ["SHOP_DSN"], settings=Settings(poll=0.5, webhook_networks=("127.0.0.1/32",), lease=3, beat=1))

@app.task
async def note(text: str) -> str:
    return text
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_a_delivery_under_way_is_not_lost(database: str, tmp_path: Path, number: int) -> None:
    """S2-33: a worker that is stopped or killed during a slow delivery: another makes it once more, under its id."""
    held = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.set()
        await reader.read()

    app = hooked_app(database)
    with command_line(tmp_path) as cli:
        cli.module("shop", SHOP)
        cli.environment |= {"SHOP_DSN": database, "JOBQUEUE_WEBHOOK_KEY": KEY}
        async with app, receiving(never, status(200)) as receiver:
            hook = await app.webhooks.create(receiver.url, "job.completed")
            await defer(app, "note", "PAYLOADMARKER")
            first = cli.start("worker", "shop", "--drain-timeout", "0.1", "--log-level", "debug")
            await held.wait()
            first.signal(number)
            await first.ends()
            second = cli.start("worker", "shop", "--log-level", "debug")
            (delivery,) = await delivered(app, hook)
            second.signal(signal.SIGTERM)
            code = await second.ends()

    assert (0, 200) == (code, delivery.status)
    assert [str(delivery.id)] * 2 == [post.id for post in receiver.posts]
    for text in (first.err, second.err, *(post.body.decode() for post in receiver.posts)):
        for told in ("MARKER", "Traceback", "InterfaceError", "whsec_", "v1,"):
            assert told not in text
