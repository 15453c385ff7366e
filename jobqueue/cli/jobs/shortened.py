"""Ids that were shortened to their beginning or their end: which jobs are meant."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from jobqueue.base.errors import InvalidOption
from jobqueue.cli.parts import is_whole
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import Refusal
from jobqueue.tasks.jobs import Jobs


def whole(place: Place, ids: Sequence[str]) -> list[UUID]:
    """The ids in full. Raises Refusal for a part that no job's id has, or several have."""
    if all(is_whole(id) for id in ids):
        return [UUID(id) for id in ids]

    async def resolve(jobs: Jobs) -> list[UUID]:
        return [UUID(id) if is_whole(id) else await jobs.resolve(id) for id in ids]

    try:
        return list(dict.fromkeys(asyncio.run(place.ask(Jobs, resolve))))
    except InvalidOption as error:
        raise Refusal(str(error)) from None
