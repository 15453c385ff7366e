"""Fixtures for all tests, and the life of the PostgreSQL they run on."""

import gc
import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TypeVar

import pytest
import pytest_asyncio
import structlog
from hypothesis import HealthCheck, settings

from tests.support.jobs.gates import wrong_at_the_end
from tests.support.leaks import Surroundings, find_leaks
from tests.support.patience import SLOWNESS, scale_limit
from tests.support.postgres.database import Databases
from tests.support.postgres.kept import kept_for, kept_open
from tests.support.postgres.server import Caller, Door, RunServer, ServerSource, ServerUnavailable, describe_choice
from tests.support.programs.bytecode import compile_all, import_share, keep_compiled
from tests.support.secrets import WATCH, hear_others, install
from tests.support.waiting import let_midnight_pass

T = TypeVar("T")

SOURCE = pytest.StashKey[ServerSource]()
OWNED = pytest.StashKey[RunServer]()
DOOR = pytest.StashKey[Door]()
PASSED = pytest.StashKey[bool]()
LONGEST_FIRST = (
    "flows", "examples", "packaging", "bench", "typing", "cli", "architecture", "worker", "store", "app", "phases",
    "web", "webhooks", "events", "bundles", "cron", "testing", "tasks",
)  # fmt: skip
DATABASE_FIXTURES = {"databases", "database", "empty_database"}


# The run. Parallel test processes have a `workerinput`; the process that was started has not, and owns the server.


def pytest_configure(config: pytest.Config) -> None:
    """Own the server of this run, or know where to ask for it; listen to what the library tells."""
    gc.disable()  # until all tests are collected: there is nothing to find, and looking was a sixth of the time
    # a machine that is slow or busy is no fault of the example that is tried just then
    settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("house")
    install()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored, by our children too
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the same under nohup
    keep_compiled()
    workerinput = getattr(config, "workerinput", None)
    if workerinput is not None:
        config.stash[SOURCE] = Caller(*workerinput["door"])
        return
    compile_all()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as on Ctrl-C: cleanly, with the server stopped
    config.stash[SOURCE] = config.stash[OWNED] = RunServer()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell a parallel test process where to ask."""
    stash: pytest.Stash = node.config.stash  # type: ignore[attr-defined]
    if DOOR not in stash:
        stash[DOOR] = Door(stash[OWNED])
    node.workerinput["door"] = stash[DOOR].address  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Drop all databases of this run and stop its server."""
    if DOOR in config.stash:
        config.stash[DOOR].close()
    if OWNED in config.stash:
        config.stash[OWNED].close()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which PostgreSQL tests would get, and how long they wait."""
    if OWNED not in config.stash:
        return []
    return [f"PostgreSQL for tests: {describe_choice()}", f"limits are those of the reference machine x {SLOWNESS:.2g}"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Share the work of a first run among the test processes."""
    import_share(session.config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Limits only end what hangs: they are as long as this machine is slow. What takes longest begins first."""
    for item in items:
        scale_limit(item)
    items.sort(key=_turn)  # stable: the order inside a file stays


def _turn(item: pytest.Item) -> int:
    room = item.nodeid.partition("/")[2].partition("/")[0]
    return LONGEST_FIRST.index(room) if room in LONGEST_FIRST else len(LONGEST_FIRST)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which PostgreSQL the tests got."""
    if OWNED in config.stash:
        started = config.stash[OWNED].started
        terminalreporter.write_line(str(started) if started else "PostgreSQL: not needed by these tests")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get the server now, if any test wants it: its start must not count against the time of the first test."""
    gc.enable()
    gc.set_threshold(10_000, 20, 50)  # as in a worker process: seldom enough to cost little
    if session.config.option.collectonly:
        return
    gc.collect()
    gc.freeze()  # what was collected lives to the end: looking through it again and again was a fifth of the time
    if any(DATABASE_FIXTURES & set(getattr(item, "fixturenames", ())) for item in session.items):
        try:
            session.config.stash[SOURCE].template()
        except ServerUnavailable:
            return  # the fixtures say it, test by test


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Start with structlog as it comes: `capture_logs` leaves it configured, and later events go astray."""
    let_midnight_pass()
    structlog.reset_defaults()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None, object, object]:
    """S3-20, S4-39: whatever a test is about, nothing of a payload is told, and each event is as the table says."""
    WATCH.begin()
    hear_others()
    result = yield
    dsn = item.funcargs.get("database", item.funcargs.get("own"))  # of the run's server, or of the flows' own
    faults = WATCH.faults(dsn if isinstance(dsn, str) else None)
    if faults:
        pytest.fail("the library has told what it should not:\n" + "\n".join(faults[:5]), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that a test passed: only then is it news what it left behind."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


# The fixtures.


@pytest.fixture(scope="session")
def databases(pytestconfig: pytest.Config) -> Iterator[Databases]:
    """Where a test gets databases of its own."""
    databases = Databases(had_or_failed(pytestconfig.stash[SOURCE].server))
    yield databases
    databases.close()


@pytest.fixture(scope="module")
def template(pytestconfig: pytest.Config) -> str:
    """The name of a database with the schema of this version, migrated today, to be cloned."""
    return had_or_failed(pytestconfig.stash[SOURCE].template)


@pytest.fixture
def todays_template(pytestconfig: pytest.Config) -> str:
    """The same for one test: that of the module may be of yesterday."""
    return had_or_failed(pytestconfig.stash[SOURCE].template)


def had_or_failed(get: Callable[[], T]) -> T:
    try:
        return get()
    except ServerUnavailable as error:
        reason = str(error)
    pytest.fail(reason, pytrace=False)


@pytest_asyncio.fixture
async def database(databases: Databases, todays_template: str, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The DSN of a fresh database with the schema; afterwards nothing of the test may still run or be connected.

    Given SQL as its parameter, it is a clone of one that was filled so, for all tests that ask.
    """
    fill = getattr(request, "param", None)
    clone = databases.filled(todays_template, fill) if fill else todays_template
    with databases.as_new(clone, lambda: not fill and request.node.stash.get(PASSED, False)) as dsn:
        before = Surroundings.now()
        async with kept_open(dsn):
            yield dsn
            await fail_on_wrong_gates(request.node, dsn)
        await fail_on_leaks(request.node, before, databases, dsn)


@pytest_asyncio.fixture
async def empty_database(databases: Databases, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """The DSN of a fresh database without the schema; the same holds afterwards."""
    with databases.temporary() as dsn:
        before = Surroundings.now()
        async with kept_open(dsn):
            yield dsn
        await fail_on_leaks(request.node, before, databases, dsn)


async def fail_on_wrong_gates(test: pytest.Item, dsn: str) -> None:
    """Fail if a test that passed left places miscounted; only those about limits pay for a connection."""
    kept = kept_for(dsn)
    if test.stash.get(PASSED, False) and ((kept is not None and kept.idle) or "limit" in test.nodeid):
        wrong = await wrong_at_the_end(dsn)
        if wrong:
            pytest.fail("gates are wrong: " + "\n           and: ".join(wrong), pytrace=False)


async def fail_on_leaks(test: pytest.Item, before: Surroundings, databases: Databases, dsn: str) -> None:
    """Fail if a test that passed left something behind."""
    if test.stash.get(PASSED, False):
        leaks = await find_leaks(before, databases.backends(dsn))
        if leaks:
            pytest.fail("left behind: " + "\n         and: ".join(leaks), pytrace=False)
