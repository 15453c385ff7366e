"""`worker --processes`: many worker processes under one parent, how they are replaced, and how they end together."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import psutil
import pytest

from tests.cli.conftest import SLOW, Shop
from tests.support.patience import stretched
from tests.support.programs.processes import CommandLine, Process
from tests.support.waiting import wait_until

TWO = ("--processes", "2")


@pytest.fixture
def suspend(cli: CommandLine) -> Iterator[Callable[[psutil.Process], None]]:
    """Stops a process; if the test fails it goes on afterwards, so that it sees that its parent is gone."""
    suspended: list[psutil.Process] = []

    def suspend(process: psutil.Process) -> None:
        process.suspend()
        suspended.append(process)

    yield suspend
    cli.close()
    for process in suspended:
        with suppress(psutil.NoSuchProcess):
            process.resume()


async def started(cli: CommandLine, *options: str, workers: int = 2, **environment: str) -> Process:
    """A parent whose children all work."""
    parent = cli.start("worker", "shop:app", "--processes", str(workers), *options, **environment)
    await parent.says("worker.started")  # fails with the error there is, if it ends
    await wait_until(lambda: parent.err.count("worker.started") >= workers, "all children work")
    return parent


def children_of(parent: Process) -> list[psutil.Process]:
    """Its children, the oldest first; those that nobody has reaped too."""
    return sorted(psutil.Process(parent.pid).children(), key=lambda child: (child.create_time(), child.pid))


def is_gone(process: psutil.Process) -> bool:
    """Whether it has ended; an orphan may wait for a first process that does not reap."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def replaced(parent: Process, child: psutil.Process, how: str) -> None:
    """Wait until the parent has said that this child ended in this way, and another one works."""
    before = parent.err.count("worker.started")
    await parent.says(f"(pid {child.pid}) {how}")
    await wait_until(lambda: parent.err.count("worker.started") > before, "another child works")


async def a_job_in_each(parent: Process, shop: Shop, seconds: float = 600.0, workers: int = 2) -> None:
    """Let every child of a parent with `--concurrency 1` run a job."""
    for _ in range(workers):
        shop.defer("wait", json.dumps({"seconds": seconds}), "mail")
    await wait_until(lambda: parent.err.count("waiting") == workers, "each child runs a job")


async def test_children_share_the_work_and_drain_together(cli: CommandLine, shop: Shop) -> None:
    """Two children run jobs, in sessions of their own; one SIGTERM lets them end their jobs; the exit code is 0.
    One banner and one answer to the signal are enough for all."""
    parent = await started(cli, "--concurrency", "1")
    await a_job_in_each(parent, shop, 1.0)
    pids = {child.pid for child in children_of(parent)}
    sessions = {os.getsid(pid) for pid in pids}

    parent.signal(signal.SIGTERM)

    assert 0 == await parent.ends()
    assert {"completed": 2} == shop.states()
    assert 2 == len(pids)
    assert pids == sessions
    assert ["jobqueue: draining 2 workers, up to 20 s; again to stop now"] == said(parent)
    assert 1 == parent.err.count("worker of shop")
    assert "concurrency   1 in each of 2 processes" in parent.err


def said(parent: Process) -> list[str]:
    """The lines that are neither banner nor log."""
    return [line for line in parent.err.splitlines() if line.startswith("jobqueue: ")]


async def test_a_killed_child_is_replaced(
    cli: CommandLine, shop: Shop, suspend: Callable[[psutil.Process], None]
) -> None:
    """A child that is killed, and one that somebody stops, are replaced; the other goes on with its job; nothing is
    left for the system to reap."""
    parent = await started(cli, "--concurrency", "1", "--queues", "mail")
    first, second = children_of(parent)
    suspend(first)
    shop.defer("wait", '{"seconds": 1.5}', "mail")
    await parent.says("waiting")

    first.kill()
    await replaced(parent, first, "was ended by SIGKILL; replaced in 0.1 s")
    await wait_until(lambda: shop.states() == {"completed": 1}, "the other child's job is completed")

    second.terminate()
    await replaced(parent, second, "ended with exit code 0; replaced in 0.1 s")
    assert [] == [child for child in children_of(parent) if is_gone(child)]
    assert 2 == len(children_of(parent))
    parent.signal(signal.SIGINT)
    assert 0 == await parent.ends()


async def test_what_is_longer_than_the_limit_is_given_back_by_all(cli: CommandLine, shop: Shop) -> None:
    """At the drain's limit every child gives back what it runs; the parent's exit code 3 says so."""
    parent = await started(cli, "--concurrency", "1", "--drain-timeout", "0.5")
    await a_job_in_each(parent, shop)

    parent.signal(signal.SIGTERM)

    assert 3 == await parent.ends()
    assert {"ready": 2} == shop.states()
    assert [
        "jobqueue: draining 2 workers, up to 0.5 s; again to stop now",
        "jobqueue: jobs were cancelled in 2 of 2 workers; what had not finished was given back",
    ] == said(parent)


async def test_a_signal_to_all_of_them_counts_once(cli: CommandLine, shop: Shop) -> None:
    """A service manager signals parent and children alike: that is one stop, and the running jobs end."""
    parent = await started(cli, "--concurrency", "1")
    for _ in range(2):
        shop.defer("hold", "{}", "mail")
    await wait_until(lambda: parent.err.count("holding") == 2, "each child runs a job")

    parent.signal(signal.SIGTERM)
    await wait_until(lambda: parent.err.count("worker.draining") == 2, "both drain")
    for child in children_of(parent):
        child.terminate()
    (cli.folder / "let go").touch()

    assert 0 == await parent.ends()
    assert {"completed": 2} == shop.states()


async def test_a_second_signal_gives_back_and_a_third_leaves(
    cli: CommandLine, shop: Shop, suspend: Callable[[psutil.Process], None]
) -> None:
    """A14: the second Ctrl-C lets every child give back what it runs, exit code 3; the third kills them, exit code 4,
    even if they block."""
    parent = await started(cli, "--concurrency", "1")
    await a_job_in_each(parent, shop)
    parent.signal(signal.SIGINT)
    await parent.says("draining 2 workers")
    await parent.signal_until(signal.SIGINT, "cancelling what runs and giving it back; again to leave at once")
    assert 3 == await parent.ends()
    assert {"ready": 2} == shop.states()

    parent = await started(cli, "--queues", "default")
    children = children_of(parent)
    for child in children:
        suspend(child)
    for expected in ("draining 2 workers", "cancelling what runs", "left at once"):
        await parent.signal_until(signal.SIGTERM, expected)
    assert 4 == await parent.ends()
    assert all(is_gone(child) for child in children)


async def test_orphans_give_back_and_end(cli: CommandLine, shop: Shop) -> None:
    """A19: if the parent is killed its children give back what they run, and are gone at once."""
    parent = await started(cli, "--concurrency", "1")
    await a_job_in_each(parent, shop)
    children = children_of(parent)

    parent.signal(signal.SIGKILL)

    await wait_until(lambda: all(is_gone(child) for child in children), "the orphans are gone")
    await wait_until(lambda: shop.states() == {"ready": 2}, "their jobs are given back")
    assert all(f"the parent of worker process {child.pid} is gone" in parent.err for child in children)


async def test_orphans_that_import_end_at_once(cli: CommandLine) -> None:
    """A19: also in the middle of an import."""
    cli.module("slow", SLOW + "time.sleep(600)\n")
    parent = cli.start("worker", "slow", *TWO)
    await parent.says("importing")
    (child,) = children_of(parent)

    parent.signal(signal.SIGKILL)

    await wait_until(lambda: is_gone(child), "the orphan is gone")


async def test_a_signal_before_the_start_stops_too(cli: CommandLine) -> None:
    """A signal while the first child still imports the user's module ends both."""
    cli.module("slow", SLOW + "time.sleep(600)\n")
    parent = cli.start("worker", "slow", *TWO)
    await parent.says("importing")

    parent.signal(signal.SIGTERM)

    assert 0 == await parent.ends()
    assert ["jobqueue: stopping, no worker had started yet"] == parent.err.splitlines()[1:]


def impatient(
    cli: CommandLine,
    target: str,
    limits: str,
    words: Sequence[str] = ("-m", "jobqueue", "worker", "--drain-timeout=0.1"),
) -> None:
    """A module whose import is a parent: there is no option for these limits."""
    cli.module(
        "impatient",
        "import os, sys\nfrom jobqueue.cli.worker.processes import Limits, Parent\n"
        f"os._exit(Parent([sys.executable, *{words!r}], {target!r}, 2, limits=Limits({limits})).run())\n",
    )


async def test_the_pauses_grow(cli: CommandLine) -> None:
    """Children that die one after the other are replaced more and more slowly, up to a limit."""
    impatient(cli, "any", "longest_pause=0.6", ("-c", "import os; os.kill(os.getpid(), 9)"))
    parent = cli.start("worker", "impatient")
    await wait_until(lambda: len(said(parent)) == 4, "four have died")

    pauses = [float(line.split()[-2]) for line in said(parent)]
    assert 0.1 == pauses[0] < 0.3 <= pauses[1] <= 0.5 < pauses[2] == pauses[3] == 0.6
    parent.signal(signal.SIGTERM)
    assert 0 == await parent.ends()


async def test_a_child_that_is_never_ready_is_replaced(
    cli: CommandLine, shop: Shop, suspend: Callable[[psutil.Process], None]
) -> None:
    """A18: a child that stalls before it is ready is killed at its deadline and replaced; the rest goes on."""
    ready = float(round(stretched(6.0)))
    impatient(cli, "stalling", f"ready={ready}")
    cli.module(
        "stalling",
        "import os, sys, time\nfrom shop import app, say\n"
        "if not os.path.exists('stalled') and '--silent' in sys.argv:\n"
        "    open('stalled', 'w').close()\n    say('stalling')\n    time.sleep(600)\n",
    )
    parent = cli.start("worker", "impatient")
    await parent.says("stalling")
    suspend(children_of(parent)[1])

    await parent.says(f"was not ready after {ready:.0f} s and was killed; replaced in 0.1 s")
    await wait_until(lambda: parent.err.count("worker.started") == 2, "both work")

    assert "worker 2" in said(parent)[0]
    parent.signal(signal.SIGTERM)
    assert 0 == await parent.ends()


async def test_a_hung_child_is_replaced(cli: CommandLine, shop: Shop) -> None:
    """B9: a child whose event loop is blocked for ten leases is killed and replaced; the other is not touched."""
    lease = round(stretched(0.4), 1)
    parent = await started(cli, JOBQUEUE_LEASE=str(lease), JOBQUEUE_BEAT=str(lease / 4))
    before = children_of(parent)
    shop.defer("block", '{"seconds": 600}', "mail", max_attempts=1)
    await parent.says("blocking")

    await parent.says(f"gave no sign of life for {10 * lease:.0f} s and was killed; replaced in 0.1 s")
    await wait_until(lambda: parent.err.count("worker.started") == 3, "another child works")

    (kept,) = set(before) & set(children_of(parent))
    assert not re.search(rf"pid {kept.pid}\b", parent.err)
    assert 2 == len(children_of(parent))


async def test_a_child_that_does_not_end_is_killed(
    cli: CommandLine, shop: Shop, suspend: Callable[[psutil.Process], None]
) -> None:
    """A15: what cannot even end by its own force is killed by the parent; the exit code is 4."""
    impatient(cli, "shop", f"stop={stretched(5.0)}")
    parent = cli.start("worker", "impatient")
    await wait_until(lambda: parent.err.count("worker.started") == 2, "both work")
    suspend(children_of(parent)[0])

    parent.signal(signal.SIGTERM)

    assert 4 == await parent.ends()
    assert "did not end in time and was killed" in parent.err
    assert "jobs outlived the stop, or could not be saved, in 1 of 2 workers" in parent.err


async def test_what_keeps_the_app_from_working_is_said_once(cli: CommandLine, empty_database: str) -> None:
    """A wrong module, an App without tasks, and a database without the schema each end the parent as they end a single
    worker: one error, its exit code, nothing started again."""
    app = f"from jobqueue import App\napp = App({empty_database!r})\n"
    cli.module("idle", app)
    cli.module("bare", f"{app}@app.task\nasync def t() -> None: ...\n")

    for target, code, words in (
        ("nowhere", 1, "No module named 'nowhere'"),
        ("idle", 2, "idle has no tasks"),
        ("bare", 1, "python -m jobqueue migrate up"),
    ):
        answer = await cli.run("worker", target, *TWO)
        assert (code, 1) == (answer.code, len(answer.err.splitlines())), answer.err
        assert words in answer.err


async def test_a_burst_ends_when_all_have_ended(cli: CommandLine, shop: Shop) -> None:
    """In a burst children end by themselves and are not replaced; every job ran."""
    for number in range(20):
        shop.defer("note", json.dumps({"n": number}))

    answer = await cli.run("worker", "shop", "--burst", *TWO)

    assert 0 == answer.code, answer.err
    assert {"completed": 20} == shop.states()
    assert 2 == answer.err.count("worker.stopped")
    assert not re.search("replaced|jobqueue: ", answer.err)


async def test_the_number_is_checked(cli: CommandLine) -> None:
    """Less than one process is wrong usage."""
    answer = await cli.run("worker", "shop", "--processes", "0")

    assert 2 == answer.code
    assert "--processes" in answer.err


async def test_the_embedded_server_is_named_once(cli: CommandLine) -> None:
    """S0-02: without a database of their own all children use one embedded server, and one line says so."""
    cli.module("own", "from jobqueue import App\napp = App()\n@app.task\nasync def nothing() -> None: ...\n")

    answer = await cli.run("worker", "own", "--burst", *TWO)

    assert 0 == answer.code, answer.err
    assert 2 == answer.err.count("worker.stopped")
    assert 1 == answer.err.count("using the embedded PostgreSQL")
