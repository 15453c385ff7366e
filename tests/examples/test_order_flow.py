"""The order: its worker is killed at every step, and there is one reservation, one charge, one parcel, one webhook."""

import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any
from uuid import UUID

import pytest_asyncio

from examples.order_flow.app import Shipped, app, fulfil
from examples.order_flow.carrier import BOOK
from jobqueue import Job, JobState
from tests.examples.programs import Ended, Program, run, running
from tests.support.jobs.store import Connection, connect
from tests.support.patience import NEVER, PATIENCE
from tests.support.programs.processes import CommandLine, Process, command_line
from tests.support.receiver import KEY
from tests.support.waiting import wait_until

APP = "examples.order_flow.app:app"

STOCK = "select from order_flow.stock for update"
PHASES = "lock table order_flow.phase in exclusive mode"
CHARGES = "lock table order_flow.charge in exclusive mode"
SIGNALS = "lock table order_flow.signal in access exclusive mode"
ENDS = "lock table order_flow.job_archive in exclusive mode"
JOB = "select from order_flow.job where id = $1 for update"
"""Whoever has it locked keeps the phases of this job off the record."""

WAITED_FOR = "select exists (select from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid)))"
CUT = "select pg_terminate_backend(pid) from pg_locks where not granted"
OVER = "update order_flow.phase set wake_at = now() where job_id = $1 and name = 'cool-down'"


class Gate:
    """A lock that a test holds: a worker comes as far as that."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transaction = connection.transaction()

    async def shut(self, lock: str, *values: object) -> None:
        await self._transaction.start()
        await self._connection.execute(lock, *values)

    async def is_waited_for(self) -> bool:
        return bool(await self._connection.fetchval(WAITED_FOR))

    async def has_come(self) -> None:
        """Return once somebody waits here."""
        await wait_until(self.is_waited_for, "the worker has come to the gate")

    async def open(self) -> None:
        if self._connection.is_in_transaction():
            await self._transaction.rollback()


@dataclass
class Shop:
    """What its readers run, on the test's database and in the test's folder."""

    cli: CommandLine
    dsn: str
    connection: Connection
    crashes: int = 0
    """How often a worker was killed that had the order."""

    async def run(self, *arguments: str) -> Ended:
        """One of the example's own commands."""
        return await run("-m", "examples.order_flow", *arguments, dsn=self.dsn)

    async def place(self, *arguments: str) -> UUID:
        placed = await self.run("place", *arguments)
        assert 0 == placed.code, placed.err
        found = re.search(r"^placed: +(\S+)$", placed.out, re.MULTILINE)
        assert found is not None, placed.out
        return UUID(found[1])

    @asynccontextmanager
    async def gate(self, lock: str = "", *values: object) -> AsyncIterator[Gate]:
        """A gate, shut from the start if it is said what to lock."""
        async with connect(self.dsn) as connection:
            gate = Gate(connection)
            if lock:
                await gate.shut(lock, *values)
            try:
                yield gate
            finally:
                await gate.open()

    def start(self) -> Process:
        return self.cli.start("worker", APP)

    @asynccontextmanager
    async def killed_worker(self, order: UUID) -> AsyncIterator[None]:
        """A worker that goes on with the order inside the block, and is killed at its end."""
        worker = self.start()
        await self.taken_back(order)
        try:
            yield
        finally:
            worker.signal(SIGKILL)
            await worker.ends()
            await self.connection.fetch(CUT)  # on another machine its connections would have gone with it
            await wait_until(self.nobody_waits, "its connections are gone")
            self.crashes += (await app.jobs.get(order)).state is JobState.RUNNING

    async def taken_back(self, order: UUID) -> None:
        """Return once the order is out of the hands of the dead, and due."""
        found: list[Job] = []

        async def crash_is_known() -> bool:
            found[:] = [await app.jobs.get(order)]
            return found[0].crashes == self.crashes

        await wait_until(crash_is_known, f"crash {self.crashes} of the order is known")
        if found[0].error is not None and found[0].state is JobState.SCHEDULED:
            await app.jobs.reschedule(order, delay=0)

    async def nobody_waits(self) -> bool:
        return not await self.connection.fetch("select from pg_locks where not granted")

    async def states(self, order: UUID) -> dict[str, str]:
        """Where the phases of the order are."""
        return {phase.name: str(phase.state) for phase in await app.jobs.phases(order)}

    async def becomes(self, order: UUID, phase: str, state: str) -> None:
        """Return once a phase is in this state."""

        async def is_there() -> bool:
            return (await self.states(order)).get(phase) == state

        await wait_until(is_there, f"phase {phase!r} is {state}")

    async def is_parked(self, order: UUID, phase: str, state: str) -> None:
        """Return once no worker has the order any more, because of this phase."""
        await self.becomes(order, phase, state)

        async def is_put_off() -> bool:
            return (await app.jobs.get(order)).state is JobState.SCHEDULED

        await wait_until(is_put_off, "its worker has given the order away")

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.connection.fetch(query)]

    async def pieces(self) -> int:
        return int(await self.connection.fetchval("select pieces from order_flow.stock"))

    async def stock_is_touched(self) -> bool:
        """True once somebody has taken from it, committed or not."""
        return not await self.rows("select from order_flow.stock where pieces = 100 for update skip locked")

    async def charges(self) -> list[tuple[Any, ...]]:
        return await self.rows("select key, cents, refunded, asked from order_flow.charge")

    @property
    def parcels(self) -> list[tuple[Any, ...]]:
        """What the carrier knows; empty also while it has no book."""
        with closing(sqlite3.connect(self.cli.folder / BOOK)) as book:
            if not book.execute("select 1 from sqlite_master").fetchall():
                return []
            return book.execute("select key, what, asked from parcel").fetchall()

    @contextmanager
    def carrier_held(self) -> Iterator[sqlite3.Connection]:
        """Whoever writes into the carrier's book waits, until the block ends or this is rolled back."""
        with closing(sqlite3.connect(self.cli.folder / BOOK, isolation_level=None)) as book:
            book.execute("begin immediate")
            yield book


@pytest_asyncio.fixture
async def shop(empty_database: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop without orders; its app is open."""
    with command_line(tmp_path) as cli, app.override(dsn=empty_database):
        cli.environment |= {
            "JOBQUEUE_DSN": empty_database, "JOBQUEUE_WEBHOOK_KEY": KEY, "JOBQUEUE_MAX_CRASHES": "1000",
            "JOBQUEUE_LEASE": str(NEVER),
        }  # fmt: skip
        async with connect(empty_database) as connection:
            await app.migrate()
            async with app:
                yield Shop(cli, empty_database, connection)


@asynccontextmanager
async def receiver(shop: Shop) -> AsyncIterator[Program]:
    """The example's receiver, which a webhook leads to."""
    words = ("-m", "examples.order_flow", "receive", "--port", "0")
    log = shop.cli.folder / "receiver.log"
    async with running(*words, dsn=shop.dsn, log=log, JOBQUEUE_WEBHOOK_KEY=KEY) as program:
        await program.says("receives at")
        yield program


async def test_an_order_is_done_once_wherever_its_worker_is_killed(shop: Shop) -> None:
    """S2-05, S2-17: killed before, in and behind every phase, between effect and record, at the end, in a delivery.

    What is on record is never done again. What was done and not recorded is: its rows are not, since they commit with
    the record; a service is asked twice, under the same key.
    """
    async with receiver(shop) as told:
        order = await shop.place("--cool-down", str(NEVER))
        await killed_while_reserving(shop, order)
        await killed_while_charging(shop, order)
        await killed_while_parked(shop, order)
        await killed_while_shipping(shop, order)
        await killed_at_the_end(shop, order, told)
        await goes_on_to_its_end(shop, told)

    key = f"{order} charge"
    assert 99 == await shop.pieces()
    assert [(str(order), "lamp", 1)] == await shop.rows("select * from order_flow.reservation")
    assert [(key, 4_900, False, 2)] == await shop.charges()
    assert [(f"{order} ship", "1 x lamp", 2)] == shop.parcels
    assert 1 == told.said.count(f"job.completed  {order}") == told.said.count(str(order))
    phases = [(phase.name, phase.kind, phase.state) for phase in await app.jobs.phases(order)]
    assert [
        ("reserve", "phase", "completed"), ("charge", "phase", "completed"), ("approved", "wait", "completed"),
        ("cool-down", "sleep", "completed"), ("ship", "phase", "completed"),
    ] == phases  # fmt: skip
    job, result = await app.jobs.get(order), await fulfil.handle(order).result()
    assert (JobState.COMPLETED, 8) == (job.state, job.crashes)
    assert isinstance(result, Shipped)
    assert ("ada", 1) == (result.approved_by, result.parcel)


async def killed_while_reserving(shop: Shop, order: UUID) -> None:
    """Before anything; and with all rows written, but neither they nor the record committed: as if it had not begun."""
    async with shop.gate(STOCK) as stock, shop.killed_worker(order):
        await stock.has_come()
    async with shop.gate(STOCK) as stock, shop.gate() as record, shop.killed_worker(order):
        await stock.has_come()
        await record.shut(PHASES)
        await stock.open()
        await wait_until(shop.stock_is_touched, "the stock is taken")
        await record.has_come()
    assert ({}, 100) == (await shop.states(order), await shop.pieces())


async def killed_while_charging(shop: Shop, order: UUID) -> None:
    """Behind the reservation, which is there for good; and charged, but that is not on record: charged once more."""
    async with shop.gate(CHARGES) as charges, shop.killed_worker(order):
        await charges.has_come()
    assert ("completed", 99) == ((await shop.states(order))["reserve"], await shop.pieces())
    async with shop.gate(CHARGES) as charges, shop.gate() as record, shop.killed_worker(order):
        await charges.has_come()
        await record.shut(JOB, order)
        await charges.open()
        await wait_until(shop.charges, "it is charged")
    assert "completed" != (await shop.states(order)).get("charge")
    assert [1] == [asked for *_, asked in await shop.charges()]


async def killed_while_parked(shop: Shop, order: UUID) -> None:
    """As it begins to wait, while it waits, while it sleeps. The approval comes while nothing runs to hear it."""
    async with shop.gate(SIGNALS) as signals, shop.killed_worker(order):
        await signals.has_come()
    assert {"reserve": "completed", "charge": "completed"} == await shop.states(order)
    async with shop.killed_worker(order):
        await shop.is_parked(order, "approved", "waiting")
    assert 0 == (await shop.run("approve", str(order))).code
    async with shop.killed_worker(order):
        await shop.is_parked(order, "cool-down", "sleeping")
    await shop.connection.execute(OVER, order)
    await app.jobs.reschedule(order, delay=0)


async def killed_while_shipping(shop: Shop, order: UUID) -> None:
    """In the thread, before there is a parcel; and with the parcel on its way, but not on record."""
    with shop.carrier_held():
        async with shop.killed_worker(order):
            await shop.becomes(order, "ship", "running")
    assert [] == shop.parcels
    with shop.carrier_held() as book:
        async with shop.gate() as record, shop.killed_worker(order):
            await shop.becomes(order, "ship", "running")
            await record.shut(JOB, order)
            book.execute("rollback")
            await wait_until(lambda: shop.parcels, "there is a parcel")
    assert "completed" != (await shop.states(order))["ship"]


async def killed_at_the_end(shop: Shop, order: UUID, told: Program) -> None:
    """With all phases on record, but not the end of the job; and while the receiver has not answered yet."""
    async with shop.gate(ENDS) as ends, shop.killed_worker(order):
        await shop.becomes(order, "ship", "completed")
        await ends.has_come()
    told.process.send_signal(SIGSTOP)

    async def under_way() -> bool:
        return bool(await app.jobs.list(queue="webhooks", state=JobState.RUNNING))

    async with shop.killed_worker(order):
        await wait_until(under_way, "the webhook is being delivered")
    told.process.send_signal(SIGCONT)


async def goes_on_to_its_end(shop: Shop, told: Program) -> None:
    """One more worker delivers the webhook, and is stopped."""
    (hook,) = await app.webhooks.list()

    async def delivered() -> bool:
        await app.jobs.reschedule(delay=0, queue="webhooks", state=JobState.SCHEDULED)
        return bool(await app.webhooks.deliveries(hook.id, state=JobState.COMPLETED))

    worker = shop.start()
    await wait_until(delivered, "the webhook is delivered")
    worker.signal(SIGTERM)
    assert 0 == await worker.ends(), worker.err
    assert 1 == len(await app.webhooks.deliveries(hook.id))


async def test_an_order_that_nobody_approves_gives_all_back(shop: Shop) -> None:
    """The wait ends in time; money and stock are given back, each in a phase; an approval is too late then."""
    worker = shop.start()
    order = await shop.place("--patience", "0.1")
    await app.sender.wait_final(order, PATIENCE)
    shown, approved = await shop.run("show", str(order)), await shop.run("approve", str(order))
    worker.signal(SIGTERM)
    assert 0 == await worker.ends(), worker.err

    assert JobState.CANCELLED is (await app.jobs.get(order)).state
    assert 100 == await shop.pieces()
    assert [] == await shop.rows("select from order_flow.reservation")
    assert [(f"{order} charge", 4_900, True, 1)] == await shop.charges()
    lines = [tuple(line.split()[1:3]) for line in shown.out.splitlines()[1:]]
    assert [
        ("reserve", "completed"), ("charge", "completed"), ("approved", "failed"), ("refund", "completed"),
        ("release", "completed"),
    ] == lines  # fmt: skip
    assert (1, "too_late\n") == (approved.code, approved.out)
