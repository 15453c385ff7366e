"""`top`: what it shows, in which space, and how it ends; and that it outlives the database."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from rich.console import Console

from jobqueue.base.flows.bundle import BundleCounts
from jobqueue.base.job import JobState
from jobqueue.base.outcome import Cancelled, Dead, Done, Outcome
from jobqueue.cli.top import screen as top
from jobqueue.cli.top.frame import Frame, Rates, draw, shared, short
from jobqueue.cli.top.screen import Looks
from jobqueue.store.flows.schedules import Firing
from jobqueue.store.looking.overview import Flow, QueueStats, RunningJob, WorkerNow
from tests.cli.conftest import Shop
from tests.support.jobs.store import claim, failure, finish, insert, new_jobs, open_session
from tests.support.patience import NEVER
from tests.support.postgres.own_server import TEMPLATE, OwnServer, own_server
from tests.support.programs.processes import CommandLine
from tests.support.programs.terminal import terminal
from tests.support.waiting import wait_until

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
WORKER = WorkerNow(UUID(int=1), "shop", "host", 4711, "0.1.0", 50, 7_300.0, 2.0, True, False, 40, 3)
JOB = RunningJob(UUID(int=7), "send_mail", "mail", 2, 20, 90.0, False, False, 0.25, "page 1\x1b[31m of 4", UUID(int=1))
QUEUE = QueueStats("mail", 0, 12, 1, 61.0, False)
ABOUT = frozenset({JobState.READY, JobState.SCHEDULED})
BUNDLES = BundleCounts(0, 0, 0)
RATES = Rates(1234.5, 10, 9.5, 0.25, 0)


def drawn(frame: Frame, width: int = 80, height: int = 24, away: float | None = None) -> list[str]:
    console = Console(width=width, highlight=False)
    with console.capture() as written:
        console.print(draw(frame, width, height, away, "ConnectionRefusedError"))
    return [line.rstrip() for line in written.get().splitlines()]


def frame(**said: object) -> Frame:
    return replace(Frame("postgresql://me:***@h/d", NOON, RATES, [QUEUE], [WORKER], [JOB], BUNDLES, []), **said)  # type: ignore[arg-type]


def test_a_frame_says_what_happens() -> None:
    """S4-97: rates, queues, workers and running jobs with their progress; control characters are made visible."""
    lines = drawn(frame(), 120)

    assert "12:00:00 UTC  postgresql://me:***@h/d" in lines[0]
    assert "1 worker, jobs: 12 ready, 0 scheduled, 1 running" == lines[1]
    assert "per second: deferred 1.23e+03, started 10, completed 9.5, dead 0.25, cancelled 0" == lines[2]
    assert ["mail", "12", "0", "1", "61", "s"] == lines[5].split()
    assert ["host", "4711", "shop", "0.1.0", "40/50", "3", "2", "h", "2", "s", "alive"] == lines[8].split()
    assert ["…00000007", "send_mail", "mail", "2/20", "90", "s"] == lines[11].split()[:6]
    assert lines[11].endswith(r"25% page 1\x1b[31m of 4  host 4711")


def test_what_fires_next_is_told() -> None:
    """The next firings stand below, one that is late says so, an odd name is made visible; without any is nothing."""
    soon, late = Firing("digest", "send", NOON, 7_300.0), Firing("odd\x1b[31m", "tidy", NOON, -180.0)

    lines = drawn(frame(firings=[late, soon]))

    assert ["schedule", "next", "task"] == lines[-3].split()
    assert [r"odd\x1b[31m", "3", "min", "late", "tidy"] == lines[-2].split()
    assert ["digest", "in", "2", "h", "send"] == lines[-1].split()
    assert "schedule" not in [word for line in drawn(frame()) for word in line.split()]


def test_what_waits_for_others_has_a_column() -> None:
    """Blocked jobs are told where there are any, in 80 columns too; who has none sees nothing of it."""
    long = replace(QUEUE, queue="a_queue_with_a_long_name", blocked=2_500_000, scheduled=612_345, ready=99_999,
                   oldest_due=172_000.0, paused=True, paused_for=300.0, estimated=frozenset(JobState))  # fmt: skip

    lines = drawn(frame(queues=[long, QUEUE]))

    assert "1 worker, jobs: ~100 k ready, ~612 k scheduled, ~2.5 M blocked, ~2 running" == lines[1]
    assert ["ready", "scheduled", "blocked", "running", "oldest", "due", "notes"] == lines[4].split()[1:]
    assert ["~100", "k", "~612", "k", "~2.5", "M", "~1", "48", "h"] == lines[5].split()[1:10]
    assert ["mail", "12", "0", "0", "1", "61", "s"] == lines[6].split()
    assert max(map(len, lines)) <= 80
    assert "blocked" not in "\n".join(drawn(frame()))


def test_a_frame_counts_unfinished_bundles() -> None:
    """S4-97: bundles that have not ended stand beside the jobs, about right if there are very many."""
    few, many = BundleCounts(3, 900, 2), BundleCounts(40_000, 900, 2, frozenset({"unfinished", "finished"}))

    assert "1 worker, jobs: 12 ready, 0 scheduled, 1 running, 3 unfinished bundles" == drawn(frame(bundles=few))[1]
    assert drawn(frame(bundles=many))[1].endswith(", ~40 k unfinished bundles")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (40, 12), (20, 5)])
def test_a_frame_fits(width: int, height: int) -> None:
    """S4-97: no line is longer than the terminal is wide, and not more of them than it is high; what was left out is
    counted."""
    many = frame(
        queues=[replace(QUEUE, queue=f"a_queue_with_a_long_name_{number}") for number in range(60)],
        workers=[replace(WORKER, id=UUID(int=number), host="a-host-with-a-long-name") for number in range(30)],
        jobs=[replace(JOB, message="a long story " * 30) for _ in range(80)],
    )

    lines = drawn(many, width, height, away=12.0)

    assert max(map(len, lines)) <= width
    if height > 20:
        assert len(lines) == height
        for total, heading in ((60, "queue "), (30, "worker "), (1200, "running ")):
            start = next(number for number, line in enumerate(lines) if line.startswith(heading))
            more = next(number for number, line in enumerate(lines) if number > start and line.startswith("+"))
            assert f"+{total - (more - start - 1)} more" == lines[more]
    assert any(line.startswith("database away since 12 s") for line in lines) or width < 40


def test_ids_are_whole_where_there_is_room() -> None:
    """S4-98: in a wide terminal the id is one to copy."""
    assert str(JOB.id) in "\n".join(drawn(frame(), 140))
    assert str(JOB.id) not in "\n".join(drawn(frame(), 120))


def test_states_of_queues_and_workers_are_named() -> None:
    """S2-01, S4-97: a paused queue, an estimate, a dead worker, one that left jobs behind, a job asked to end."""
    odd = frame(
        queues=[
            QueueStats("big", 2_500_000, 612_345, 0, 7_300.0, False, estimated=ABOUT),
            QueueStats("held", 0, 3, 0, 1.0, True, NOON, paused_for=300.0),
            QueueStats("rests", 0, 2, 0, 1.0, True, NOON, paused_for=5.0, resume_at=NOON, resumes_in=600.0),
        ],
        workers=[WORKER, replace(WORKER, alive=False), replace(WORKER, leaving=True)],
        jobs=[replace(JOB, cancelling=True), replace(JOB, worker_id=UUID(int=9))],
    )  # fmt: skip

    text = "\n".join(drawn(odd, 120))

    assert "1 worker (2 dead or leaving), jobs: ~612 k ready, ~2.5 M scheduled, 0 running" in text
    assert ["big", "~612", "k", "~2.5", "M", "0", "2", "h"] == text.splitlines()[5].split()
    assert text.splitlines()[6].endswith("for 5 min")
    assert text.splitlines()[7].endswith("for 5 s, resumes in 10 min")
    assert ["alive", "dead", "leaving"] == [line.split()[-1] for line in text.splitlines()[10:13]]
    assert "cancelling 25% page" in text
    assert "unknown" in text


@pytest.mark.parametrize(
    ("lines", "wanted", "rooms"),
    [(10, [3, 3, 3], [3, 3, 3]), (10, [20, 1, 20], [4, 1, 5]), (0, [1], [0]), (-5, [1], [0]), (9, [9] * 3, [3] * 3)],
)  # fmt: skip
def test_lines_are_shared(lines: int, wanted: list[int], rooms: list[int]) -> None:
    """S4-97: no part takes more than it wants, and what small ones leave the others get."""
    assert rooms == shared(lines, wanted)


@pytest.mark.parametrize(
    ("number", "about", "said"),
    [(0, False, "0"), (99_999, False, "99999"), (100_000, False, "100 k"), (9_999, True, "~9999"),
     (10_000, True, "~10 k"), (999_499, False, "999 k"), (999_500, False, "1.0 M"), (5_000_012, True, "~5.0 M")],
)  # fmt: skip
def test_large_numbers_are_short(number: int, about: bool, said: str) -> None:
    """S4-97: six characters at most, and the sign of an estimate."""
    assert said == short(number, about)


def test_rates_are_differences() -> None:
    """S4-97: counters by the time between two looks; the completed are what has ended otherwise than dead or
    cancelled."""
    first, last = Flow(NOON, 100, 50, 20, 7, 7), Flow(NOON + timedelta(seconds=4), 140, 70, 80, 8, 4)

    assert Rates(deferred=10, started=5, completed=12, dead=2, cancelled=1) == Rates.between(first, last)
    assert 0 == Rates.between(first, replace(last, finished=20)).completed
    assert 0 == Rates.between(first, replace(last, finished=32)).completed


async def test_the_dead_are_not_completed(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4-97: all rates are about the same time: jobs that died are not told as completed, nor do those of before hide
    what was completed since."""

    async def end(count: int, outcome: Outcome) -> None:
        await insert(session, *new_jobs(count))
        for row in await claim(session, count):
            await finish(session, row, outcome=outcome)

    async def counted() -> tuple[int, ...]:
        before = looks.frame
        await looks.look()
        assert before is not None
        assert looks.frame is not None
        assert looks.frame.rates is not None
        rates, seconds = looks.frame.rates, (looks.frame.at - since).total_seconds()
        return tuple(round(rate * seconds) for rate in (rates.completed, rates.dead, rates.cancelled))

    monkeypatch.setattr(top, "RECENT", NEVER)
    async with open_session(database) as session:
        looks = Looks(session.database, "here")
        await end(30, Dead("fatal", failure()))
        await looks.look()
        assert looks.frame is not None
        assert looks.frame.rates is None
        since = looks.frame.at
        await end(20, Dead("fatal", failure()))
        assert (0, 20, 0) == await counted()
        await end(3, Done("1"))
        await end(2, Cancelled())
        assert (3, 20, 2) == await counted()
        monkeypatch.setattr(top, "RECENT", 0.0)  # from now on the last look is old enough
        since = looks.frame.at
        await end(4, Done("1"))
        assert (4, 0, 0) == await counted()


async def test_without_a_terminal_there_is_one_frame(cli: CommandLine, shop: Shop) -> None:
    """S4-97, S3-20: as text or as JSON, with what runs; never a payload; with `--interval` JSON goes on in lines."""
    shop.defer("wait", '{"seconds": 471147114711}', "mail")
    shop.defer("note", '{"n": 4711471147}', delay=3600)
    worker = cli.start("worker", "shop", "--drain-timeout", "0.01")
    await worker.says("waiting")

    plain = await cli.run("top", "shop")
    document = json.loads((await cli.run("top", "--dsn", shop.dsn, "--json", "--once")).out)
    stream = cli.start("top", "shop", "--json", "--interval", "0.5")
    await wait_until(lambda: len(stream.out.splitlines()) >= 2, "two lines are written")
    stream.signal(15)

    assert (0, "") == (plain.code, plain.err)
    assert "1 worker, jobs: 0 ready, 1 scheduled, 1 running" in plain.out
    assert f" {worker.pid}" in plain.out
    assert {"default": 1, "mail": 0} == {queue["queue"]: queue["scheduled"] for queue in document["queues"]}
    assert [("wait", 1, "mail")] == [(job["task"], job["attempt"], job["queue"]) for job in document["running"]]
    assert [(worker.pid, True, 1)] == [(one["pid"], one["alive"], one["running"]) for one in document["workers"]]
    assert {"deferred", "started", "completed", "dead", "cancelled"} == set(document["per_second"])
    assert {"unfinished": 0, "finished": 0, "with_errors": 0, "estimated": []} == document["bundles"]
    assert all(json.loads(line)["running"] for line in stream.out.splitlines())
    assert 0 == await stream.ends()
    worker.signal(15)
    assert "4711471147" not in plain.out + json.dumps(document) + stream.out
    assert 3 == await worker.ends()


@pytest.mark.parametrize("key", ["q", "\x03"], ids=["q", "Ctrl-C"])
async def test_a_terminal_is_left_as_it_was(cli: CommandLine, shop: Shop, key: str) -> None:
    """S4-97, S0-14: frames follow one another, and the size of the terminal; q or Ctrl-C ends it with 0; keys and
    screen are as before."""
    with terminal(cli.folder, "top", "--interval", "0.5", JOBQUEUE_DSN=shop.dsn) as top:
        await top.shows("0 workers, jobs: 0 ready")
        shop.defer("note", '{"n": 1}')
        await top.shows("0 workers, jobs: 1 ready")
        assert 24 >= len(top.frame)
        assert top.settings != top.settings_before
        top.resize(40, 10)
        await wait_until(lambda: max(map(len, top.frame)) <= 40, "the frame has become small")

        top.type(key)

        assert 0 == await top.ends()
        assert top.settings == top.settings_before
        assert top.raw.rindex("\x1b[?1049h") < top.raw.rindex("\x1b[?1049l")
        assert "\x1b[?25h" in top.raw[top.raw.rindex("\x1b[?25l") :]
        assert "Traceback" not in top.text
        assert "\x1a" not in top.text


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with own_server() as server:
        yield server


async def test_it_outlives_the_database(server: OwnServer, tmp_path: Path) -> None:
    """S4-97: while the database is away the last frame stays, and says since when; afterwards it goes on."""
    await server.start()
    with (
        server.databases.temporary(TEMPLATE) as dsn,
        terminal(tmp_path, "top", "--interval", "0.5", JOBQUEUE_DSN=dsn) as top,
    ):
        await top.shows("0 workers, jobs: 0 ready")
        await server.stop("immediate")
        await wait_until(lambda: re.search(r"database away since ([2-9]|\d\d+) s", top.text), "it says since when")
        await wait_until(lambda: any("0 workers, jobs: 0 ready" in line for line in top.frame), "the last frame stays")
        await server.start()
        await wait_until(lambda: not any("away" in line for line in top.frame) and len(top.frame) > 5, "it is back")
        await server.stop("immediate")
        await wait_until(lambda: any("away" in line for line in top.frame), "it is away again")
        top.type("q")
        assert 0 == await top.ends()
        await server.start()


async def test_what_cannot_be_is_one_line(cli: CommandLine, empty_database: str) -> None:
    """S4-97: no schema, no server, too small an interval."""
    for words, code, told in (
        (("--dsn", empty_database), 1, "migrate up"),
        (("--dsn", "postgresql://me:hunter2@127.0.0.1:1/d"), 1, "the connection was refused"),
        (("--dsn", empty_database, "--interval", "0.1"), 2, "--interval"),
        ((), 2, "which database?"),
    ):
        answer = await cli.run("top", *words)
        assert (code, "", 1) == (answer.code, answer.out, len(answer.err.splitlines()))
        assert told in answer.err
        assert "hunter2" not in answer.err
