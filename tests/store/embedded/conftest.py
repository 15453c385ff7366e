"""Folders of embedded servers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.postgres.embedded import begun, embedded_project


@pytest_asyncio.fixture
async def new_folder() -> AsyncIterator[Path]:
    """Of a project in which nobody has had a server."""
    async with embedded_project() as folder:
        yield folder


@pytest_asyncio.fixture
async def folder(new_folder: Path) -> Path:
    """With data of a server that was stopped: making them takes longer than all the rest of a test."""
    return await begun(new_folder)
