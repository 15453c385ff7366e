"""A producer of a measurement, a program: stores jobs of either side as soon as it is told to.

One program for both, and for one process as for four: what it costs to start is no part of what is measured.
"""

import asyncio
import os
import sys
from dataclasses import asdict, dataclass

import orjson

from jobqueue.bench.child import SCHEMA, Line, Meter, run
from jobqueue.bench.ours import Ours
from jobqueue.bench.raw import Raw
from jobqueue.bench.side import Load, Side

MOST_CONNECTIONS = 20
"""Of the limit, over all its producers: as a small server can spare."""


@dataclass(frozen=True, slots=True)
class Order:
    """What one producer has to do: so many calls by each of its callers, or one call for all."""

    side: str
    count: int
    limit: float
    callers: int = 1
    connections: int = 1
    bulk: bool = False
    unique: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """After `python -m`."""
        return ("jobqueue.bench.producing", "{line}", orjson.dumps(asdict(self)).decode())


async def main(descriptor: int, order: Order) -> None:
    """Get ready, wait for the word, do it, report."""
    line, meter = Line(descriptor), Meter()
    side = await _side(order)
    await side.send(0)  # connects, prepares, and encodes for the first time
    line.ready()
    await line.told.wait()
    meter.begin()
    if order.bulk:
        await side.fill(Load(order.count, unique=order.unique))
    else:
        async with asyncio.TaskGroup() as callers:
            for caller in range(order.callers):
                callers.create_task(_call(side, range(caller, order.count, order.callers)))
    meter.jobs = order.count
    meter.report()
    await side.close()


async def _call(side: Side, numbers: range) -> None:
    for number in numbers:
        await side.send(number)


async def _side(order: Order) -> Side:
    dsn, schema = os.environ["JOBQUEUE_DSN"], os.environ[SCHEMA]
    if order.side == Raw.name:
        return await Raw.open(dsn, schema, order.limit, order.connections)
    return await Ours.open(dsn, schema, order.limit)


if __name__ == "__main__":
    run(main(int(sys.argv[1]), Order(**orjson.loads(sys.argv[2]))))
