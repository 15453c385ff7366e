"""`worker` and signals: from the first moment on, of every kind, and more than one at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cli.conftest import SLOW, Shop
from tests.support.programs.processes import CommandLine, Process
from tests.support.programs.terminal import terminal
from tests.support.waiting import wait_until

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


async def with_a_job(cli: CommandLine, shop: Shop, seconds: float, *options: str) -> Process:
    """A worker that runs a job of so many seconds."""
    shop.defer("wait", f'{{"seconds": {seconds}}}', "mail")
    worker = cli.start("worker", "shop:app", *options)
    await worker.says("waiting")
    return worker


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["one", "many"])
async def test_a_signal_in_the_first_moments_stops_too(
    number: signal.Signals, options: tuple[str, ...], cli: CommandLine
) -> None:
    """While the command line itself is still being imported, a worker that is told to stop ends with 0, and says so."""
    cli.module("typer", SLOW + "time.sleep(600)\n")
    worker = cli.start("worker", "shop", *options)
    await worker.says("importing")

    worker.signal(number)

    assert 0 == await worker.ends()
    assert ["importing", "jobqueue: stopped before the worker had started"] == worker.err.splitlines()


async def test_an_interrupt_in_the_first_moments_is_no_traceback(cli: CommandLine) -> None:
    """Ctrl-C while any other verb is still being imported ends with 130."""
    cli.module("typer", SLOW + "time.sleep(600)\n")
    verb = cli.start("jobs", "list")
    await verb.says("importing")

    verb.signal(signal.SIGINT)

    assert (130, "importing\n") == (await verb.ends(), verb.err)


async def test_a_signal_that_the_import_swallows_stops_too(cli: CommandLine) -> None:
    """A module that goes on after whatever was raised in it does not make a worker forget that it was told to stop."""
    cli.module("deaf", SLOW + "try:\n    time.sleep(600)\nexcept BaseException:\n    pass\nfrom shop import app\n")
    cli.module("shop", "from jobqueue import App\napp = App('postgresql://nowhere')\n@app.task\ndef t() -> None: ...\n")
    worker = cli.start("worker", "deaf")
    await worker.says("importing")

    worker.signal(signal.SIGTERM)

    assert 0 == await worker.ends()
    assert "stopped before the worker had started" in worker.err


@pytest.mark.parametrize(("options", "said"), [((), "draining, 1 job"), (("--processes", "2"), "draining 2 workers")])
async def test_a_hangup_drains(options: tuple[str, ...], said: str, cli: CommandLine, shop: Shop) -> None:
    """SIGHUP is answered like SIGTERM: the running job ends, and the exit code is 0."""
    shop.defer("hold", "{}", "mail")
    worker = cli.start("worker", "shop:app", *options)
    await worker.says("holding")
    await wait_until(lambda: worker.err.count("worker.started") == len(options) or not options, "all work")

    worker.signal(signal.SIGHUP)

    await worker.says(said)
    (cli.folder / "let go").touch()
    assert 0 == await worker.ends()
    assert {"completed": 1} == shop.states()


@contextmanager
def ignored(number: signal.Signals) -> Iterator[None]:
    """Processes that are started inside ignore this signal, as under `nohup`."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["one", "many"])
async def test_nohup_is_obeyed(options: tuple[str, ...], cli: CommandLine, shop: Shop) -> None:
    """A worker that was started so that it ignores SIGHUP goes on after one, and still drains on SIGTERM."""
    with ignored(signal.SIGHUP):
        worker = await with_a_job(cli, shop, 0.0, *options)

    worker.signal(signal.SIGHUP)
    shop.defer("note", '{"n": 7}')

    await worker.says("note 7")
    worker.signal(signal.SIGTERM)
    assert 0 == await worker.ends()
    assert "draining" in worker.err


async def test_a_closed_terminal_drains(cli: CommandLine, shop: Shop) -> None:
    """Whoever closes the window loses no job: what runs is completed though nothing can be written, exit code 0."""
    with terminal(cli.folder, "worker", "shop:app", anew=True, SHOP_DSN=shop.dsn) as worker:
        await worker.shows("worker.started")
        shop.defer("wait", '{"seconds": 1}', "mail")
        await worker.shows("waiting")

        assert 0 == await worker.hang_up()
    assert {"completed": 1} == shop.states()


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["one", "many"])
async def test_an_echo_of_a_signal_does_not_count(options: tuple[str, ...], cli: CommandLine, shop: Shop) -> None:
    """Two signals at once, as from a process manager and its group, are one: the running job ends in peace."""
    worker = await with_a_job(cli, shop, 1.0, *options)
    await worker.says("worker.started")

    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGHUP)  # not the same: of two the system may deliver one

    assert 0 == await worker.ends()
    assert "cancelling" not in worker.err
    assert {"completed": 1} == shop.states()


async def test_what_was_claimed_ahead_is_given_back_without_a_word(
    cli: CommandLine, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3 is for jobs that were cancelled: those that had not begun are given back by a clean drain, with 0."""
    for _ in range(5):
        shop.defer("hold", "{}", "mail")
    worker = cli.start("worker", "shop:app", "--concurrency", "1", JOBQUEUE_PREFETCH="4")
    await worker.says("holding")

    worker.signal(signal.SIGTERM)
    await worker.says("draining")
    (cli.folder / "let go").touch()

    assert 0 == await worker.ends()
    assert {"completed": 1, "ready": 4} == shop.states()


LEAVES = "import sys\nfrom shop import app\nsys.exit(0)\n"
LEAVES_LATER = """
import contextlib, os, sys
from jobqueue import App

@contextlib.asynccontextmanager
async def lifespan(app):
    sys.exit(0)
    yield

app = App(os.environ["SHOP_DSN"], lifespan=lifespan)

@app.task
async def nothing() -> None: ...
"""


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (LEAVES, "leaver.py:3 called sys.exit(0) while the App was loaded"),
        ("def app():\n    raise SystemExit\n", "leaver.py:2 called sys.exit(None) while the App was loaded"),
        (LEAVES_LATER, "leaver.py:7 called sys.exit(0) in the worker"),
    ],
    ids=["import", "factory", "lifespan"],
)
async def test_the_user_s_own_exit_is_not_taken_for_ours(module: str, words: str, cli: CommandLine, shop: Shop) -> None:
    """Whoever supervises a worker must not think that it ended well: `sys.exit(0)` is told, and the code is 1."""
    cli.module("leaver", module)

    answer = await cli.run("worker", "leaver")

    assert 1 == answer.code
    assert words in answer.err.splitlines()[-1]


@pytest.mark.parametrize("options", [(), ("--processes", "2")], ids=["one", "many"])
async def test_a_signal_in_the_last_moments_changes_no_exit_code(
    options: tuple[str, ...], cli: CommandLine, shop: Shop
) -> None:
    """What comes when the interpreter has taken its handlers back does not turn a good end into a death by signal."""
    worker = cli.start("worker", "shop:app", *options, PYTHONIOENCODING="utf-8")  # a start, and an end, of its own
    await worker.says("worker.started")
    worker.signal(signal.SIGTERM)
    await worker.says("worker.stopped")

    def hammered() -> bool:
        for _ in range(1_000):
            worker.signal(signal.SIGTERM)
        return worker.ended

    await wait_until(hammered, "it ends")
    assert await worker.ends() in (0, 4), "4 if three of them counted"
