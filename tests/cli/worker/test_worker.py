"""`worker`: real processes that run jobs, and how they end."""

import json
import re
import signal

import pytest

from tests.cli.conftest import SLOW, Shop
from tests.support.patience import scaled
from tests.support.programs.processes import CommandLine, Process
from tests.support.programs.terminal import terminal
from tests.support.waiting import wait_until

RECORD = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z (debug|info|warning|error|critical) ")


async def started(cli: CommandLine, *options: str) -> Process:
    """A worker that has begun to work."""
    process = cli.start("worker", "shop:app", *options)
    await process.says("worker.started")
    return process


async def test_twenty_jobs_complete(cli: CommandLine, shop: Shop) -> None:
    """A burst runs every job that was deferred, and ends with 0. (S0-02)"""
    for number in range(20):
        shop.defer("note", json.dumps({"n": number}))

    answer = await cli.run("worker", "shop", "--burst")

    assert 0 == answer.code, answer.err
    assert {"completed": 20} == shop.states()
    assert {f"note {number}" for number in range(20)} <= set(answer.err.splitlines())


@pytest.mark.parametrize(
    ("own", "in_force"), [("", "10000"), ("gc.set_threshold(50_000)", "50000")], ids=["none", "own"]
)
async def test_the_garbage_collector_rests(cli: CommandLine, shop: Shop, own: str, in_force: str) -> None:
    """It hardly looks while modules load; they are frozen, and thresholds raised; those of the user's own stand."""
    (cli.folder / "collected.py").write_text(
        f"import gc, sys\nfrom shop import app\nloading = gc.get_threshold()[0]\n{own}\n"
        "@app.task\ndef tell() -> None:\n"
        "    sys.stderr.write(f'{loading} {gc.get_threshold()[0]} {gc.get_freeze_count() > 10_000}\\n')\n"
    )
    shop.defer("tell", "{}")

    answer = await cli.run("worker", "collected", "--burst")

    assert 0 == answer.code, answer.err
    assert f"50021 {in_force} True" in answer.err.splitlines()


async def test_the_banner_comes_first(cli: CommandLine, shop: Shop) -> None:
    """Before the first log line stands what is served, where and how."""
    answer = await cli.run("worker", "shop:app", "--burst", "--concurrency", "7", "--queues", "default,mail:2")

    banner, _, log = answer.err.partition("listener.ready")
    assert 0 == answer.code, answer.err
    assert "worker.started" in log
    for line in (
        "jobqueue 0.1.0, worker of shop",
        "schema        jobqueue, 00",  # and the name of the last migration
        "queues        default, mail:2",
        "tasks         bulk (not served here): fail",
        "default: log, loop, note",
        "concurrency   7",
        "drain limit   20 s",
        "wake-ups      listening",
    ):
        assert line in banner


async def test_a_signal_drains(cli: CommandLine, shop: Shop) -> None:
    """On SIGTERM the worker says how many jobs it waits for, lets them end, claims no more, and exits with 0."""
    worker = await started(cli)
    shop.defer("hold", "{}", "mail")
    await worker.says("holding")

    worker.signal(signal.SIGTERM)
    await worker.says("jobqueue: draining, 1 job, up to 20 s; again to stop now")
    shop.defer("note", '{"n": 1}')
    (cli.folder / "let go").touch()

    assert 0 == await worker.ends()
    assert {"completed": 1, "ready": 1} == shop.states()


async def test_a_job_in_its_last_moments_completes(cli: CommandLine, shop: Shop) -> None:
    """A signal in a job's last 100 ms leaves a completed row, not a running one. (S1-16)"""
    worker = await started(cli)
    shop.defer("wait", '{"seconds": 0.1}', "mail")
    await worker.says("waiting")

    worker.signal(signal.SIGTERM)

    assert 0 == await worker.ends()
    assert {"completed": 1} == shop.states()


async def test_what_is_longer_than_the_limit_is_given_back(cli: CommandLine, shop: Shop) -> None:
    """At the drain's limit running jobs are cancelled and runnable again; the exit code 3 says so. (S0-08)"""
    worker = await started(cli, "--drain-timeout", "0.5")
    shop.defer("wait", '{"seconds": 600}', "mail")
    await worker.says("waiting")

    worker.signal(signal.SIGTERM)

    assert 3 == await worker.ends()
    assert {"ready": 1} == shop.states()
    assert "1 job was cancelled; what had not finished was given back" in worker.err


async def test_a_second_signal_gives_back_at_once(cli: CommandLine, shop: Shop) -> None:
    """The second Ctrl-C does not wait for the running jobs any longer."""
    worker = await started(cli)
    shop.defer("wait", '{"seconds": 600}', "mail")
    await worker.says("waiting")

    worker.signal(signal.SIGINT)
    await worker.says("draining, 1 job")
    await worker.signal_until(signal.SIGINT, "cancelling what runs and giving it back; again to leave at once")

    assert 3 == await worker.ends()
    assert {"ready": 1} == shop.states()


async def test_a_third_signal_leaves_whatever_runs(cli: CommandLine, shop: Shop) -> None:
    """Even a handler that blocks the event loop cannot hold the process after the third signal."""
    worker = await started(cli)
    shop.defer("block", '{"seconds": 600}', "mail")
    await worker.says("blocking")

    for expected in ("draining, 1 job", "cancelling what runs", "left at once"):
        await worker.signal_until(signal.SIGTERM, expected)

    assert 4 == await worker.ends()
    assert {"running": 1} == shop.states()


async def test_what_does_not_end_is_ended_by_force(cli: CommandLine, shop: Shop) -> None:
    """Past the limit and the time for the last writes one signal is enough: a blocked loop ends with 4; a drained
    worker that only the user's own threads hold, with 0."""
    cli.module(
        "threads",
        "import threading, time\nfrom shop import app\nthreading.Thread(target=time.sleep, args=(600,)).start()\n",
    )
    blocked = await started(cli, "--drain-timeout", "0.1", "--queues", "mail")
    unhurried = f"{scaled(2):g}"  # to end in good order takes longer on a busy machine
    held = cli.start("worker", "threads", "--drain-timeout", unhurried, "--queues", "default")
    await held.says("worker.started")
    shop.defer("block", '{"seconds": 600}', "mail")
    await blocked.says("blocking")

    blocked.signal(signal.SIGTERM)
    held.signal(signal.SIGTERM)

    assert 4 == await blocked.ends()
    assert 0 == await held.ends()
    assert "ended by force: tasks or threads outlived the stop" in blocked.err
    assert "threads of your own" in held.err


async def test_a_handler_that_outlives_its_cancellation_keeps_its_claim(cli: CommandLine, shop: Shop) -> None:
    """A job whose handler does not end is not given back, for it would run twice; the exit code is 4."""
    worker = await started(cli, "--drain-timeout", "0.1")
    shop.defer("cling", '{"seconds": 600}', "mail")
    await worker.says("clinging")

    worker.signal(signal.SIGTERM)

    assert 4 == await worker.ends()
    assert {"running": 1} == shop.states()
    assert "job.outlived_stop" in worker.err
    assert "Traceback" not in worker.err


async def test_a_signal_before_the_start_stops_too(cli: CommandLine, shop: Shop) -> None:
    """While the user's lifespan is still opening a signal ends the worker in good order."""
    cli.module(
        "slow",
        "import asyncio, contextlib, os\nfrom jobqueue import App\nfrom shop import say\n"
        "@contextlib.asynccontextmanager\n"
        "async def lifespan(app):\n    say('opening')\n    try:\n        await asyncio.sleep(600)\n        yield\n"
        "    finally:\n        say('closing')\n"
        "app = App(os.environ['SHOP_DSN'], lifespan=lifespan)\n@app.task\nasync def nothing() -> None: ...\n",
    )
    worker = cli.start("worker", "slow")
    await worker.says("opening")

    worker.signal(signal.SIGTERM)

    assert 0 == await worker.ends()
    assert "closing" in worker.err
    assert "stopped before the worker had started" in worker.err


async def test_a_signal_during_the_import_stops_too(cli: CommandLine) -> None:
    """A signal is not lost while the user's module is imported, not even in a container's first process."""
    cli.module("slow", SLOW + "time.sleep(600)\n")
    worker = cli.start("worker", "slow")
    await worker.says("importing")

    worker.signal(signal.SIGTERM)

    assert 0 == await worker.ends()
    assert "Traceback" not in worker.err


async def test_two_workers_share_the_jobs(cli: CommandLine, shop: Shop) -> None:
    """Starting the same worker a second time is harmless: every job runs once. (S4-25)"""
    workers = [await started(cli), await started(cli)]

    for number in range(20):
        shop.defer("note", json.dumps({"n": number}))
    await wait_until(lambda: shop.states() == {"completed": 20}, "all jobs are completed")

    for worker in workers:
        worker.signal(signal.SIGTERM)
    assert [0, 0] == [await worker.ends() for worker in workers]
    notes = [line for worker in workers for line in worker.err.splitlines() if line.startswith("note ")]
    assert sorted(f"note {number}" for number in range(20)) == sorted(notes)


async def test_only_the_queues_asked_for_are_served(cli: CommandLine, shop: Shop) -> None:
    """`--queues -mail` leaves that queue's jobs alone."""
    shop.defer("note", '{"n": 1}')
    shop.defer("wait", '{"seconds": 0}', "mail")

    answer = await cli.run("worker", "shop", "--burst", "--queues", "-mail")

    assert 0 == answer.code, answer.err
    assert {"completed": 1, "ready": 1} == shop.states()


async def test_a_worker_without_tasks_says_the_way_out(cli: CommandLine) -> None:
    """An App without tasks ends with 2, names what was imported and how to name more."""
    cli.module("shop.empty", "")
    cli.module("shop.main", "from jobqueue import App\napp = App('postgresql://nowhere', tasks=['shop.empty'])\n")

    answer = await cli.run("worker", "shop.main")

    assert 2 == answer.code
    assert "shop.main has no tasks" in answer.err
    assert "App(tasks=['shop.mail', ...])" in answer.err
    assert "Imported: shop.empty" in answer.err
    assert 1 == len(answer.err.splitlines())


async def test_wrong_options_are_named(cli: CommandLine) -> None:
    """A wrong option is one line that names it, and exit code 2, before anything is imported."""
    for options, words in (
        (("--queues", "mail:0"), "--queues: the limit in 'mail:0' must be"),
        (("--concurrency", "0"), "--concurrency"),
        (("--log-level", "loud"), "--log-level"),
    ):
        answer = await cli.run("worker", "nowhere", *options)
        assert 2 == answer.code
        assert words in answer.err
        assert 1 == len(answer.err.splitlines())


async def test_a_setting_out_of_its_limits_is_named(cli: CommandLine, shop: Shop) -> None:
    """A value that only the settings can judge is one line too."""
    answer = await cli.run("worker", "shop", "--drain-timeout", "-1")

    assert 1 == answer.code
    assert "jobqueue: drain_timeout: must be above 0 seconds, and at most ten years\n" == answer.err


async def test_a_missing_schema_is_one_line(cli: CommandLine, empty_database: str) -> None:
    """Without the schema a worker ends with one line that says which command makes it."""
    cli.module(
        "shop", f"from jobqueue import App\napp = App({empty_database!r})\n@app.task\nasync def t() -> None: ...\n"
    )

    answer = await cli.run("worker", "shop")

    assert 1 == answer.code
    assert "python -m jobqueue migrate up" in answer.err
    assert 1 == len(answer.err.splitlines())


async def test_an_error_in_the_lifespan_keeps_its_traceback(cli: CommandLine, shop: Shop) -> None:
    """What the user's own code raises is not taken for a fault of the database, and begins with their frame."""
    cli.module(
        "broken",
        "import contextlib, os\nfrom jobqueue import App\n@contextlib.asynccontextmanager\nasync def lifespan(app):\n"
        "    raise ConnectionRefusedError('no cache')\n    yield\n"
        "app = App(os.environ['SHOP_DSN'], lifespan=lifespan)\n@app.task\nasync def nothing() -> None: ...\n",
    )

    answer = await cli.run("worker", "broken")

    trace = answer.err[answer.err.index("Traceback") :].splitlines()
    assert 1 == answer.code
    assert "broken.py" in trace[1]
    assert "ConnectionRefusedError: no cache" == trace[-1]


async def test_the_fast_event_loop_is_used(cli: CommandLine, shop: Shop) -> None:
    """Jobs run on uvloop where it is installed."""
    pytest.importorskip("uvloop")
    shop.defer("loop", "{}")

    answer = await cli.run("worker", "shop", "--burst")

    assert "loop of uvloop" in answer.err


async def test_console_logs_have_one_line_a_record(cli: CommandLine, shop: Shop) -> None:
    """A line break and made-up fields in a logged text stay inside their value. (S3-21)"""
    shop.defer("log", json.dumps({"text": 'bad\n2030-01-01T00:00:00.000Z critical  fake.event a="b\x1b[31m'}))

    answer = await cli.run("worker", "shop", "--burst", "--log-format", "console")

    log = answer.err[re.search(RECORD, answer.err).start() :].splitlines()  # type: ignore[union-attr]
    assert [] == [line for line in log if not RECORD.match(line)]
    assert not any("\x1b" in line for line in log)
    assert [] == [line for line in log if " critical" in RECORD.match(line)[0]]  # type: ignore[index]
    assert 1 == sum("shop.warned" in line and r'error="bad\n2030' in line for line in log)
    assert 1 == sum(" broke " in line and " exception=" in line for line in log)


async def test_json_logs_have_one_object_a_record(cli: CommandLine, shop: Shop) -> None:
    """Every record is one JSON object with its level, time and fields. (S3-21)"""
    shop.defer("log", json.dumps({"text": "bad\nfake\u2028line"}))

    answer = await cli.run("worker", "shop", "--burst", "--log-format", "json", "--log-level", "warning")

    records = [json.loads(line) for line in answer.err.splitlines() if line.startswith("{")]
    assert ["shop.warned", "heard bad\nfake\u2028line", "broke"] == [record["event"] for record in records]
    assert "bad\nfake\u2028line" == records[0]["error"]
    assert "RuntimeError" in records[2]["exception"]
    assert {"warning", "error"} == {record["level"] for record in records}
    assert "\u2028" not in answer.err


async def test_a_json_log_has_nothing_else_in_it(cli: CommandLine, shop: Shop) -> None:
    """With `--log-format json` what the banner says is a record: whoever reads the log can read every line of it."""
    answer = await cli.run("worker", "shop:app", "--burst", "--log-format", "json")

    records = [json.loads(line) for line in answer.err.splitlines()]
    (serving,) = [record for record in records if record["event"] == "worker.serving"]
    assert ("shop", "jobqueue", 1) == (serving["app"], serving["schema"], serving["processes"])
    assert {"bulk", "default", "mail"} == set(serving["tasks"])
    assert "worker.started" in [record["event"] for record in records]


async def test_the_user_s_logging_is_left_alone(cli: CommandLine, shop: Shop) -> None:
    """Who sets up logging keeps it; an option that has no effect is said to have none."""
    cli.module(
        "own",
        "import logging\nlogging.basicConfig(format='MINE %(message)s', level=logging.INFO)\nfrom shop import app",
    )

    answer = await cli.run("worker", "own", "--burst", "--log-format", "json")

    assert 0 == answer.code
    assert "--log-format and --log-level have no effect" in answer.err
    assert re.search(r"^MINE .*worker.started", answer.err, re.MULTILINE)


WORDLESS = {"JOBQUEUE_LOG_FAILURES": "class", "JOBQUEUE_LOG_COMPLETED": "debug"}


@pytest.mark.parametrize(("settings", "told"), [({}, True), (WORDLESS, False)], ids=["default", "as the app says"])
async def test_in_a_terminal_failures_are_told_with_their_traceback(
    settings: dict[str, str], told: bool, cli: CommandLine, shop: Shop
) -> None:
    """Who watches a worker sees why a job failed and where, and what has completed; unless the app says never."""
    shop.defer("fail", '{"text": "boom"}', "bulk")
    shop.defer("note", '{"n": 1}')
    with terminal(
        cli.folder, "worker", "shop:app", "--burst", size=(200, 50), anew=True, SHOP_DSN=shop.dsn, **settings
    ) as worker:
        assert 0 == await worker.ends()
        shown = worker.text

    assert "error=jobqueue.base.outcome.Fatal" in shown
    assert told == ('message="cannot: boom"' in shown)
    assert told == ("  |     raise Fatal(" in shown)
    assert told == (re.search(r"info +job.completed seconds=0\.\d+ job_id=\S+ task=note ", shown) is not None)


async def test_elsewhere_failures_are_told_by_their_class(cli: CommandLine, shop: Shop) -> None:
    """A log that goes into a file or a collector tells no message by default, for it may quote the payload."""
    shop.defer("fail", '{"text": "boom"}', "bulk")
    shop.defer("note", '{"n": 1}')

    answer = await cli.run("worker", "shop:app", "--burst")

    assert "error=jobqueue.base.outcome.Fatal" in answer.err
    assert "boom" not in answer.err
    assert "job.completed" not in answer.err
