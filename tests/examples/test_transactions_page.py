"""docs/transactions.md: each of its blocks runs as it stands, on the library that it is about."""

import ast
import asyncio
import inspect
import re
from typing import Any

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy.pool import NullPool

from tests.examples.programs import ROOT
from tests.support.jobs.joining import django_connection, for_sqlalchemy, tortoise_config
from tests.support.jobs.working import asked
from tests.support.patience import PATIENCE
from tests.support.postgres.backends import change

PAGE = (ROOT / "docs" / "transactions.md").read_text(encoding="utf-8")
TABLES = "create table orders (number integer primary key); create table payment (of_order integer primary key)"


class Base(DeclarativeBase): ...


class Order(Base):
    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True)


class Payment(Base):
    __tablename__ = "payment"
    order: Mapped[int] = mapped_column("of_order", primary_key=True)


def blocks(language: str) -> list[str]:
    """The code blocks of the page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def execute(block: str, names: dict[str, Any]) -> None:
    """Run a block of Python as if it stood in an async function whose names are kept."""
    code = compile(block, "docs/transactions.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, names)  # noqa: S307 - the page is ours
    if inspect.iscoroutine(running):
        await running


def execute_sync(block: str, names: dict[str, Any], dsn: str) -> None:
    """Run a block in a thread, where no event loop runs."""
    from django.db import transaction

    engine = create_engine(for_sqlalchemy("psycopg", dsn), poolclass=NullPool)
    with django_connection(dsn) as connection:
        names |= {"transaction": transaction, "connection": connection, "SyncSession": sessionmaker(engine)}
        exec(compile(block, "docs/transactions.md", "exec"), names)  # noqa: S102 - the page is ours
    engine.dispose()


async def test_the_page_runs(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each library an order and its receipt are stored, and a payment is made with its job's completion."""
    from piccolo.engine.postgres import PostgresEngine
    from tortoise import Tortoise
    from tortoise.transactions import in_transaction

    monkeypatch.setenv("JOBQUEUE_DSN", database)
    await change(database, TABLES)
    first, drivers, sessions, others, pay = blocks("python")
    engine = create_async_engine(for_sqlalchemy("asyncpg", database), poolclass=NullPool)
    names: dict[str, Any] = {"__name__": "page", "app_dsn": database, "psycopg": psycopg, "text": text}
    names |= {"Session": async_sessionmaker(engine), "Order": Order, "Payment": Payment}
    names |= {"in_transaction": in_transaction, "DB": PostgresEngine({"dsn": database}, extensions=())}
    await Tortoise.init(tortoise_config(database))
    async with asyncpg.create_pool(database, min_size=0) as names["pool"]:
        for block in (first, drivers, sessions, others):
            await execute(block, names)
    await Tortoise.close_connections()
    (sync,) = blocks("python sync")
    await asyncio.to_thread(execute_sync, sync, names, database)
    await execute(pay, names)
    app = names["app"]
    async with app:
        job = await names["pay"].defer(9)
        await app.run_until_idle()
        assert "paid" == await job.result(timeout=PATIENCE)
    await engine.dispose()

    assert list(range(1, 8)) == await asked(database, "select array_agg(number order by number) from orders")
    assert [9] == await asked(database, "select array_agg(of_order) from payment")
    ran = "select array_agg((args ->> 'order')::int order by 1) from jobqueue.job_archive where task = 'send_receipt'"
    assert list(range(1, 10)) == sorted(await asked(database, ran))
