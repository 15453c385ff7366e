"""`worker --http`: real processes and their pages, from the start to the end of a drain."""

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from tests.support.jobs.working import asked
from tests.support.patience import PATIENCE
from tests.support.programs.processes import CommandLine, Process, command_line
from tests.support.waiting import wait_until
from tests.web.pages import Page, fetch

SHOP = """
import asyncio, os, pathlib
from jobqueue import App

app = App(os.environ["SHOP_DSN"], name="shop")

@app.task
async def wait() -> None:
    while not pathlib.Path("let go").exists():
        await asyncio.sleep(0.01)
"""
HERE = "127.0.0.1:0"


@pytest.fixture
def cli(tmp_path: Path, database: str) -> Iterator[CommandLine]:
    """The command line in a folder with the module `shop`."""
    with command_line(tmp_path) as line:
        line.module("shop", SHOP)
        line.environment["SHOP_DSN"] = database
        yield line


async def urls(process: Process, count: int = 1) -> list[str]:
    """Return where the pages are, as the log tells it."""
    told = re.compile(r"http\.listening +url=(\S+)")
    await process.says("http.listening")
    await wait_until(lambda: len(told.findall(process.err)) == count, "all listen")
    return told.findall(process.err)


async def reads(url: str, page: Page) -> None:
    """Wait until a page is like this."""
    await wait_until(lambda: fetch(url) == page, f"{url} says {page.text.strip()!r}")


def free_ports(count: int) -> int:
    """Return the first of so many ports in a row that are free now."""
    for _ in range(50):
        with ExitStack() as stack:
            first = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0)))).getsockname()[1]
            try:
                for port in range(first + 1, first + count):
                    stack.enter_context(closing(socket.create_server(("127.0.0.1", port))))
            except OSError:
                continue
            return int(first)
    raise AssertionError("no free ports")


async def test_the_pages_are_there_until_the_drain_is_over(cli: CommandLine, database: str) -> None:
    """S4-26: ready, then draining and alive, then gone; a client that stays connected keeps nobody from ending."""
    await asked(database, "select jobqueue.defer('wait', '{}')")
    worker = cli.start("worker", "shop:app", "--http", HERE, "--drain-timeout", str(PATIENCE))
    (url,) = await urls(worker)
    await reads(f"{url}/readyz", Page(200, "ok\n"))
    await wait_until(lambda: fetch(f"{url}/metrics").values("tasks_in_flight") == {("wait",): 1}, "the job runs")
    with (
        httpx.Client(trust_env=False) as client,
        closing(socket.create_connection(("127.0.0.1", port_of(url)))) as idle,
    ):
        assert 200 == client.get(f"{url}/healthz").status_code  # noqa: ASYNC212 - nobody else lives on this loop
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost:")  # and no more
        worker.signal(signal.SIGTERM)
        await reads(f"{url}/readyz", Page(503, "draining\n"))
        assert Page(200, "ok\n") == fetch(f"{url}/healthz")
        (cli.folder / "let go").touch()
        assert 0 == await worker.ends()
    assert "clean=True" in worker.err
    with pytest.raises(httpx.ConnectError):
        fetch(f"{url}/healthz")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_it_says_nothing_of_its_own(cli: CommandLine) -> None:
    """The web server logs neither requests nor itself: one line of ours says where it is."""
    worker = cli.start("worker", "shop:app", "--http", HERE, "--log-level", "info")
    (url,) = await urls(worker)
    await reads(f"{url}/readyz", Page(200, "ok\n"))
    worker.signal(signal.SIGINT)
    assert 0 == await worker.ends()
    events = re.findall(r"^\S+Z \w+ +(.*?)(?: |$)", worker.err, re.MULTILINE)
    assert ["http.listening", "listener.ready", "worker.started", "worker.stopped"] == events
    assert "uvicorn" not in worker.err.lower()
    assert "/readyz" not in worker.err


async def test_each_process_has_the_next_port(cli: CommandLine) -> None:
    """With --processes the first serves the port that was named, the second the next: each counts for itself."""
    first = free_ports(2)
    parent = cli.start("worker", "shop:app", "--processes", "2", "--http", f"127.0.0.1:{first}")
    found = await urls(parent, 2)
    assert [f"http://127.0.0.1:{port}" for port in (first, first + 1)] == found
    for url in found:
        await reads(f"{url}/readyz", Page(200, "ok\n"))
    workers = {worker for url in found for _, worker in fetch(f"{url}/metrics").values("worker_info")}
    assert 2 == len(workers)
    parent.signal(signal.SIGTERM)
    assert 0 == await parent.ends()


@pytest.mark.parametrize("processes", [1, 3])
async def test_a_port_that_is_taken_is_one_line(cli: CommandLine, processes: int) -> None:
    """Before any job is claimed: which address, and why; also if only the last process would have missed its port."""
    first = free_ports(processes)
    taken = first + processes - 1
    with closing(socket.create_server(("127.0.0.1", taken))):
        answer = await cli.run("worker", "shop:app", "--processes", str(processes), "--http", f"127.0.0.1:{first}")
    assert (1, f"jobqueue: --http: cannot listen on 127.0.0.1:{taken}: Address already in use\n") == (
        answer.code,
        answer.err,
    )


@pytest.mark.parametrize(
    "words", [("--http", "9000"), ("--http", ""), ("--http", "127.0.0.1:65535", "--processes", "2")]
)
async def test_a_bad_address_is_wrong_usage(cli: CommandLine, words: tuple[str, ...]) -> None:
    """One line that names --http, exit code 2."""
    answer = await cli.run("worker", "shop:app", *words)

    assert (2, 1) == (answer.code, len(answer.err.splitlines()))
    assert answer.err.startswith("jobqueue: --http: ")


@pytest.mark.parametrize("missing", ["prometheus_client", "starlette", "uvicorn"])
async def test_a_missing_extra_says_how_to_install_it(cli: CommandLine, missing: str) -> None:
    """One line, whichever of its packages is not there."""
    cli.module(missing, f"raise ModuleNotFoundError(name={missing!r})")

    answer = await cli.run("worker", "shop:app", "--http", HERE)

    assert (1, f'jobqueue: web: {missing} is not installed; pip install "jobqueue[web]"\n') == (answer.code, answer.err)


async def test_without_the_option_nothing_of_it_is_loaded(cli: CommandLine) -> None:
    """A worker needs the extra only for --http."""
    for package in ("prometheus_client", "starlette", "uvicorn"):
        cli.module(package, "raise RuntimeError('loaded')")

    answer = await cli.run("worker", "shop:app", "--burst")

    assert 0 == answer.code, answer.err
