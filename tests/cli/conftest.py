"""Fixtures of the command line's tests: a folder with the user's module, and the jobs in the database."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.programs.processes import CommandLine, command_line

SLOW = "import os, time\nos.write(2, b'importing\\n')\n"
"""How a module begins whose import takes long. In one call: `print` makes two, and a signal may come between them."""
SHOP = """
import asyncio, logging, os, sys, time
import structlog
from jobqueue import App, Fatal

app = App(os.environ.get("SHOP_DSN", "postgresql://nowhere"), name="shop")

def say(text):
    sys.stderr.write(text + "\\n")
    sys.stderr.flush()

@app.task
async def note(n: int) -> int:
    say(f"note {n}")
    return n

@app.task(queue="mail")
async def wait(seconds: float) -> str:
    say("waiting")
    await asyncio.sleep(seconds)
    return "waited"

@app.task(queue="mail")
async def hold() -> None:
    say("holding")
    while not os.path.exists("let go"):
        await asyncio.sleep(0.01)

@app.task(queue="mail")
async def block(seconds: float) -> None:
    say("blocking")
    time.sleep(seconds)

@app.task(queue="mail")
async def cling(seconds: float) -> None:
    say("clinging")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            await asyncio.sleep(end - time.monotonic())
        except asyncio.CancelledError:
            continue

@app.task(queue="bulk")
async def fail(text: str) -> None:
    raise Fatal(f"cannot: {text}", data={"card": "4711" * 3})

@app.task
async def log(text: str) -> None:
    structlog.get_logger().warning("shop.warned", error=text)
    logging.getLogger("shop").warning("heard %s", text)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        logging.getLogger("shop").exception("broke")

@app.task
async def loop() -> None:
    say("loop of " + type(asyncio.get_running_loop()).__module__)
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """The command line in an empty folder."""
    with command_line(tmp_path) as line:
        yield line


class Shop:
    """A module `shop` with an app on the test's database, whose jobs can be deferred and looked at with plain SQL."""

    def __init__(self, cli: CommandLine, dsn: str) -> None:
        self.dsn = dsn
        self._connection = psycopg.connect(dsn, autocommit=True)
        cli.module("shop", SHOP)
        cli.environment["SHOP_DSN"] = dsn

    def defer(self, task: str, args: str, queue: str = "default", **options: object) -> str:
        """Defer a job; returns its id."""
        names = "".join(f", {name} => %({name})s" for name in options)
        row = self._connection.execute(
            f"select jobqueue.defer(%(task)s, %(args)s, %(queue)s{names})::text",  # the names are the tests' own
            {"task": task, "args": args, "queue": queue, **options},
        ).fetchone()
        assert row is not None
        return str(row[0])

    def states(self) -> Counter[str]:
        """How many jobs are in each state."""
        rows = self._connection.execute(
            "select state from jobqueue.job union all select state from jobqueue.job_archive"
        ).fetchall()
        return Counter(str(row[0]) for row in rows)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def shop(cli: CommandLine, database: str) -> Iterator[Shop]:
    """The user's module `shop` in the folder of `cli`."""
    shop = Shop(cli, database)
    yield shop
    cli.close()
    shop.close()
