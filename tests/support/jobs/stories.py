"""All that somebody could read of an error, and all that is said in a loop behind everybody's back."""

import asyncio
import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def whole_story(error: BaseException | None) -> str:
    """All that a log of this error could show: texts, attributes, notes, causes and contexts."""
    if error is None:
        return ""
    return f"{error!r} {error} {vars(error)} {whole_story(error.__cause__)} {whole_story(error.__context__)}"


@contextmanager
def overheard(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What is logged inside the block at debug level, and what the loop's exception handler gets, one text each."""
    loop = asyncio.get_running_loop()
    heard: list[str] = []

    def hear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        heard.append(f"{context} {whole_story(context.get('exception'))}")

    before = loop.get_exception_handler()
    loop.set_exception_handler(hear)
    caplog.clear()
    try:
        with caplog.at_level(logging.DEBUG):
            yield heard
            gc.collect()
            heard += [f"{record.getMessage()} {record.exc_text or ''}" for record in caplog.records]
    finally:
        loop.set_exception_handler(before)
