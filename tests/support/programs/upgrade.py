"""`make upgrade`: the version before the newest migration and this one, side by side, through `migrate up` under load.

The version before is installed from git in an environment of its own. Its workers and its producer run on while the
new code migrates, and beside new ones; one of each is killed. Then: no job that was acknowledged is lost, none ran
twice but those of the killed, nothing is stuck, and no defer failed meanwhile.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.support.patience import scaled
from tests.support.postgres.database import Databases
from tests.support.postgres.server import RunServer

ROOT = Path(__file__).resolve().parents[3]
JOBS = 1_500
"""Of each producer before the next step."""
LIMIT = 120.0
RELEASED = "0010"
"""The newest migration that users may have. Raise it with each release: what comes after it is rehearsed."""
SITE = '''
import asyncio, contextlib, os, sys, time
import asyncpg
from jobqueue import App, JobContext, Settings

@contextlib.asynccontextmanager
async def life(app):
    async with asyncpg.create_pool(os.environ["SITE_DSN"], min_size=1, max_size=4) as pool:
        yield pool

settings = Settings(lease=20.0, beat=2.0, rescue_interval=1.0)
app = App(os.environ["SITE_DSN"], settings=settings, lifespan=life)

@app.task(retry=lambda job, error: 0.2)
async def note(ctx: JobContext, number: int) -> int:
    await ctx.get(asyncpg.Pool).execute("insert into ran (number, pid) values ($1, $2)", number, os.getpid())
    await asyncio.sleep(0.002)
    if number % 50 == 0 and ctx.attempt == 1:
        raise ValueError("once")
    return number

async def produce(first: int, said: str) -> None:
    """Defers until it is told to stop; writes down each acknowledged id, and the longest wait."""
    number, longest = first, 0.0
    async with app:
        with open(said, "w", buffering=1) as book:
            while not os.path.exists(said + ".stop"):
                began = time.monotonic()
                handle = await note.options(delay=0.5 if number % 7 == 0 else None).defer(number)
                longest = max(longest, time.monotonic() - began)
                book.write(f"{handle.id} {number}\\n")
                number += 1
                await asyncio.sleep(0.001)
            book.write(f"longest {longest}\\n")

if __name__ == "__main__":
    asyncio.run(produce(int(sys.argv[1]), sys.argv[2]))
'''


@dataclass(frozen=True)
class Side:
    """One version: an interpreter that has it, in the folder of the site's module."""

    name: str
    python: Path
    folder: Path
    dsn: str
    code: str = ""
    """Where its package lies, if that is not installed."""

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        log = (self.folder / f"{self.name}-{time.monotonic_ns()}.log").open("wb")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("JOBQUEUE_", "PYTHON"))
        }
        return subprocess.Popen(
            [self.python, *words],
            cwd=self.folder,
            env=environment | {"SITE_DSN": self.dsn, "PYTHONPATH": self.code},
            stdout=log,
            stderr=log,
        )

    def run(self, *words: str) -> None:
        process = self.start(*words)
        if process.wait(LIMIT) != 0:
            raise SystemExit(f"{self.name}: {' '.join(words)} ended with {process.returncode}; see {self.folder}")

    def worker(self) -> "subprocess.Popen[bytes]":
        return self.start("-m", "jobqueue", "worker", "site_of_test:app", "--concurrency", "10")

    def producer(self, first: int) -> "subprocess.Popen[bytes]":
        return self.start("site_of_test.py", str(first), str(self.folder / f"{self.name}.book"))

    def acknowledged(self) -> dict[str, int]:
        """The ids and numbers that its producer was told."""
        lines = (self.folder / f"{self.name}.book").read_text().splitlines()
        return {id: int(number) for id, number in (line.split() for line in lines if not line.startswith("longest"))}

    def longest(self) -> float:
        return float((self.folder / f"{self.name}.book").read_text().splitlines()[-1].split()[1])


def version_before() -> str | None:
    """The last commit without any migration that users do not have yet; None without git or its history."""
    names = sorted(path.name for path in (ROOT / "schema" / "migrations").glob("*.sql"))
    newest = next((name for name in names if name[:4] > RELEASED), names[-1])
    asked = ["git", "log", "--diff-filter=A", "--format=%H", "-1", "--", f"schema/migrations/{newest}"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    before = ["git", "rev-parse", "--verify", "--quiet", f"{found}^" if found else "HEAD"]
    answer = subprocess.run(before, cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def install(ref: str, folder: Path) -> Path:
    """An environment with that version from git; the libraries are those of ours."""
    tree, environment = folder / "tree", folder / "old"
    tree.mkdir()
    archive = subprocess.run(["git", "archive", ref], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-x", "-C", tree], input=archive.stdout, check=True)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "--target", packages, tree], check=True)
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    (packages / "libraries.pth").write_text(f"{libraries}\n")
    return environment / "bin" / "python"


def until(what: str, true: Callable[[], bool]) -> None:
    """Wait for a condition; its limit only ends what hangs."""
    give_up = time.monotonic() + scaled(LIMIT)
    while not true():
        if time.monotonic() > give_up:
            raise SystemExit(f"FAILED: {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def ended(processes: "list[subprocess.Popen[bytes]]") -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    if (code := process.wait(scaled(LIMIT))) != 0:
        raise SystemExit(f"FAILED: a worker that was told to stop ended with {code}")


def migrate(side: Side, look: "psycopg.Connection[Any]", before: int = 0) -> int:
    """`migrate up`; how many migrations are applied then, which must be more than before."""
    side.run("-m", "jobqueue", "migrate", "up", "site_of_test:app")
    applied = len(look.execute("select name from jobqueue.migration").fetchall())
    if applied <= before:
        raise SystemExit("FAILED: there was nothing to migrate: both sides are of one version")
    return applied


def rehearse(old: Side, new: Side) -> None:
    """The upgrade, step by step, as a site does it."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
        processes.append(process)
        return process

    with psycopg.connect(old.dsn, autocommit=True) as look, ended(processes):

        def number(query: Any) -> int:
            row = look.execute(query).fetchone()
            return int(row[0]) if row else 0

        def done() -> int:
            return number("select count(*) from jobqueue.job_archive")

        look.execute("create table ran (number integer, pid integer)")
        before = migrate(old, look)
        old_workers = [start(old.worker()) for _ in range(2)]
        old_producer = start(old.producer(0))
        until("the old ones work", lambda: done() >= JOBS)
        began = time.monotonic()
        migrate(new, look, before)
        print(f"migrate up beside two workers and a producer: {time.monotonic() - began:.1f} s with its start")
        after = done()
        until("the old ones work on the new schema", lambda: done() >= after + JOBS)
        new_workers = [start(new.worker()) for _ in range(2)]
        writers = {process.pid for process in new_workers}
        new_producer = start(new.producer(10_000_000))
        until("both work", lambda: number("select count(*) from ran where number >= 10000000") >= JOBS)
        killed = [old_workers.pop(), new_workers.pop()]
        for process in killed:
            process.kill()
        after = done()
        until("the others take over", lambda: done() >= after + JOBS)
        for side, producer in ((old, old_producer), (new, new_producer)):
            (side.folder / f"{side.name}.book.stop").touch()
            if producer.wait(scaled(LIMIT)) != 0:
                raise SystemExit(f"FAILED: the {side.name} producer had an error; see {side.folder}")
        for worker in old_workers:
            stop(worker)
        until("nothing is left", lambda: number("select count(*) from jobqueue.job") == 0)
        for worker in new_workers:
            stop(worker)
        check(look, old, new, {process.pid for process in killed}, writers)


def check(look: "psycopg.Connection[Any]", old: Side, new: Side, killed: set[int], writers: set[int]) -> None:
    """What must hold in the end. `killed` and `writers`: the workers that were, and those of the new version."""
    told = old.acknowledged() | new.acknowledged()
    archived = look.execute("select id::text, state from jobqueue.job_archive").fetchall()
    states = dict(archived)
    runs: dict[int, list[int]] = {}
    for number, pid in look.execute("select number, pid from ran").fetchall():
        runs.setdefault(number, []).append(pid)
    lost = [id for id, number in told.items() if states.get(id) != "completed" or number not in runs]
    failed_once = {number for number in told.values() if number % 50 == 0}
    doubled = [
        number
        for number, pids in runs.items()
        if len(pids) > (2 if number in failed_once else 1) and not killed.intersection(pids)
    ]
    ends = look.execute(
        "select job, count(*) from jobqueue.event, unnest(jobs) as job where type = 'job.completed' group by job"
    ).fetchall()
    twice = [id for id, times in ends if times > 1 or str(id) not in states]
    logged = {str(id) for id, _ in ends}
    unsaid = [id for id, number in told.items() if id not in logged and writers.issuperset(runs.get(number, (0,)))]
    print(f"{len(told)} jobs acknowledged, {len(lost)} of them lost, {len(doubled)} ran twice without a reason")
    print(f"the longest defer: {old.longest():.2f} s of the old producer, {new.longest():.2f} s of the new one")
    print(f"{len(ends)} of {len(states)} ends are in the log, {len(twice)} of them wrongly; old workers leave them out")
    print(f"{len(archived) - len(states)} ids are in the archive twice; the new workers left {len(unsaid)} ends out")
    if lost or doubled or twice or unsaid or not ends or len(archived) > len(states):
        raise SystemExit("FAILED")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ref", help="the version before, if not the last without the newest migration")
    ref = parser.parse_args().ref or version_before()
    if ref is None:
        print("skipped: there is no history here to take the version before from")
        return 0
    print(f"from {ref[:12]} to this one", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="jobqueue-upgrade-", ignore_cleanup_errors=True) as folder,
        closing(RunServer()) as run,
        closing(Databases(run.server())) as databases,
        databases.temporary() as dsn,
    ):
        place = Path(folder)
        (place / "site_of_test.py").write_text(SITE)
        old = Side("old", install(ref, place), place, dsn)
        new = Side("new", Path(sys.executable), place, dsn, str(ROOT))
        rehearse(old, new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
