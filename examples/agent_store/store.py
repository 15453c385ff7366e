"""The store: saving, finding, collecting. Everything that must be in the right order is in `save_one`."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg

from examples.agent_store.app import digest
from jobqueue import bounded_map

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

AT_ONCE = 25

TABLES = """
create table if not exists agent_store.payload (
  id uuid primary key,
  body text not null,
  indexed boolean not null default false,
  written_at timestamptz not null default now()
);
create table if not exists agent_store.tag (
  name text not null check (length(name) between 1 and 50),
  payload uuid not null,
  primary key (name, payload)
);
create index if not exists tag_payload on agent_store.tag (payload);
create table if not exists agent_store.digest (
  payload uuid primary key,
  words integer not null
)
"""

# Saving a memory again, after an error that leaves its fate open, makes it young again and keeps what is there.
WRITE_PAYLOAD = """
insert into agent_store.payload (id, body) values ($1, $2)
on conflict (id) do update set written_at = now()
"""

# The update is what holds off the collector, and what finds out that it was here before. No row: the payload is gone.
MARK_INDEXED = "update agent_store.payload set indexed = true where id = $1 returning id"
WRITE_TAGS = """
insert into agent_store.tag (name, payload) select name, $1 from unnest($2::text[]) as name
on conflict do nothing
"""

# A left join: were there a tag without a payload, it would show, as a memory without a body.
FIND = """
select tag.payload as id, payload.body
from agent_store.tag left join agent_store.payload on payload.id = tag.payload
where tag.name = $1
order by payload.written_at, tag.payload
"""


class PayloadGone(Exception):
    """Raised when the collector has removed a payload before its index was written. Saving the memory again helps."""


@dataclass(frozen=True)
class Memory:
    """What an agent wants to keep, and the words it wants to find it by, of 1 to 50 characters each."""

    body: str
    tags: tuple[str, ...]
    id: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        if not self.tags:
            raise ValueError("tags: a memory needs at least one, or nobody would find it")


@dataclass(frozen=True)
class Store:
    """Memories in PostgreSQL. It owns no task and no connection; the pool is the caller's."""

    pool: "asyncpg.Pool[asyncpg.Record]"

    async def save(self, memories: Iterable[Memory] | AsyncIterable[Memory]) -> list[UUID]:
        """Save all, 25 at once. Each memory is in the store with all its tags and its job, or cannot be found.

        The first error cancels the rest and is raised; what was saved before stays. A cancelled caller cancels all.
        Either way nothing is written after the call has ended, and saving the same memories again does no harm.
        """
        return await bounded_map(self.save_one, memories, AT_ONCE)

    async def save_one(self, memory: Memory) -> UUID:
        """Payload first and durable, then the index rows and the job in one transaction.

        Call `save([memory])` where you may be cancelled: it returns only when the connection has come to rest.
        """
        async with self._connection() as conn:
            await conn.execute(WRITE_PAYLOAD, memory.id, memory.body)  # no transaction: committed when it returns
            async with conn.transaction():
                if await conn.fetchval(MARK_INDEXED, memory.id) is None:
                    raise PayloadGone(f"memory {memory.id} was collected before its index was written")
                await conn.execute(WRITE_TAGS, memory.id, memory.tags)
                await digest.options(connection=conn).defer(memory.id)
        return memory.id

    async def find(self, tag: str) -> dict[UUID, str]:
        """The bodies of the memories with this tag, oldest first."""
        return {row["id"]: row["body"] for row in await self.pool.fetch(FIND, tag)}

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """One of the pool's, at rest when the block is left: the release of a cancelled call would go on without us."""
        conn = await self.pool.acquire()
        try:
            yield conn
        finally:
            release = asyncio.ensure_future(self.pool.release(conn))
            try:
                await asyncio.shield(release)
            except asyncio.CancelledError:
                await release
                raise
