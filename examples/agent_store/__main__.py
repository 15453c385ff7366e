"""Save many memories, let one fail, stop an import half-way, and look each time at what is in the database."""

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import anyio
import asyncpg

from examples.agent_store.app import app, collect_orphans, connections
from examples.agent_store.store import TABLES, Memory, Store

WORDS = 2000  # of each body
PATIENCE = 0.1  # seconds, for the import that is stopped

COUNT = """
select
  (select count(*) from agent_store.payload) as payloads,
  (select count(*) from agent_store.payload p
   where not exists (select from agent_store.tag t where t.payload = p.id)) as orphans,
  (select count(*) from agent_store.tag) as tags,
  (select count(*) from agent_store.tag t
   where not exists (select from agent_store.payload p where p.id = t.payload)) as dangling,
  (select count(*) from agent_store.digest) as digests
"""


@dataclass(frozen=True)
class Counts:
    """What is in the database. Orphans are tolerable, dangling tags are not."""

    payloads: int
    orphans: int
    tags: int
    dangling: int
    digests: int

    def __str__(self) -> str:
        return (
            f"   payloads {self.payloads:>5,}   orphans {self.orphans:>3,}   tags {self.tags:>6,}"
            f"   dangling {self.dangling}   digests {self.digests:>5,}"
        )

    @property
    def is_whole(self) -> bool:
        """True if every payload is indexed and digested, and no tag points nowhere."""
        return (self.orphans, self.dangling, self.digests) == (0, 0, self.payloads)


@dataclass(frozen=True)
class Gauged(Store):
    """A store that knows how many memories were being saved at once."""

    saving: set[UUID]
    peaks: list[int]

    async def save_one(self, memory: Memory) -> UUID:
        """As any store does."""
        self.saving.add(memory.id)
        self.peaks.append(len(self.saving))
        try:
            return await super().save_one(memory)
        finally:
            self.saving.remove(memory.id)


def memories(topic: str, count: int, *, bad: int | None = None) -> Iterator[Memory]:
    """So many memories, made one by one as there is room for them; number `bad` has a tag that is too long."""
    for number in range(count):
        tags = (topic, "even" if number % 2 == 0 else "odd", f"{topic}-{number}", f"decade-{number // 10}")
        body = f"{topic} {number}: " + "and so on " * (WORDS // 3)
        yield Memory(body, (*tags, "x" * 51) if number == bad else tags)


async def main() -> int:
    """Show it all. Returns the exit code: 0 if nothing dangles and nothing is left over."""
    await app.migrate()
    async with app, connections(app) as pool:
        await pool.execute(TABLES)
        await app.run_until_idle()  # what an interrupted run has left over
        await pool.execute("truncate agent_store.payload, agent_store.tag, agent_store.digest")
        await save_all(pool)
        await fail_one(pool)
        await stop_half_way(pool)
        return await tidy_up(pool)


async def save_all(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """The ordinary case."""
    store = Gauged(pool, set(), [])
    started = time.monotonic()
    ids = await store.save(memories("travel", 200))
    seconds = time.monotonic() - started
    print(f"1. {len(ids)} memories saved in {seconds:.2f} s, never more than {max(store.peaks)} at once")
    print(await count(pool))


async def fail_one(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """The index of one memory is refused, after its payload was written."""
    store = Gauged(pool, set(), [])
    try:
        await store.save(memories("cooking", 200, bad=60))
    except asyncpg.CheckViolationError as error:
        print(f"2. One of 200 more was refused ({type(error).__name__}), those beside it were cancelled")
    print(await count(pool))
    print(f"   found by their tag: {len(await store.find('cooking'))}; still being saved: {len(store.saving)}")


async def stop_half_way(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """The caller has had enough; what has not committed by then never does."""
    store = Gauged(pool, set(), [])
    with anyio.move_on_after(PATIENCE):
        await store.save(memories("music", 5000))
    print(f"3. An import of 5,000 was stopped after {PATIENCE} s; still being saved: {len(store.saving)}")
    at_once = await count(pool)
    await asyncio.sleep(0.5)
    later = await count(pool)
    print(at_once)
    print("   half a second later: " + ("the same, nothing came late" if later == at_once else f"\n{later}"))


async def tidy_up(pool: "asyncpg.Pool[asyncpg.Record]") -> int:
    """Run the jobs that were committed with the memories, and the collector. Returns the exit code."""
    collector = await collect_orphans.defer(older_than=0)  # an hour, if others may be saving
    await app.run_until_idle()
    counts = await count(pool)
    print(f"4. A worker ran the jobs, and the collector removed {await collector.result(timeout=10)} orphans")
    print(counts)
    print("Every memory is whole." if counts.is_whole else "Something is missing, or left over.")
    return 0 if counts.is_whole else 1


async def count(pool: "asyncpg.Pool[asyncpg.Record]") -> Counts:
    """Look into the database."""
    row = await pool.fetchrow(COUNT)
    assert row is not None
    return Counts(**row)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
