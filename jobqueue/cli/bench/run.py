"""`bench`: what was asked for, and how it ends."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobqueue.app import App
from jobqueue.bench.child import run
from jobqueue.bench.ground import own_ground
from jobqueue.bench.run import measure
from jobqueue.bench.workloads import WORKLOADS, Workload
from jobqueue.cli.bench.documents import Findings, as_document, as_markdown
from jobqueue.cli.bench.table import CannotWrite, Table
from jobqueue.cli.place import reaching, schema_of
from jobqueue.cli.terminal.failures import ExitCode, Refusal, tell_now
from jobqueue.cli.terminal.first_moments import STOPS
from jobqueue.cli.terminal.output import write_json
from jobqueue.cli.terminal.safe_text import shown_dsn


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    dsn: str | None
    schema: str
    jobs: int
    only: str | None
    repeats: int
    as_json: bool
    as_markdown: bool

    @property
    def workloads(self) -> Sequence[Workload]:
        """Those that are named, in our order. Raises Refusal."""
        if self.only is None:
            return WORKLOADS
        wanted = {name.strip() for name in self.only.split(",")}
        if unknown := wanted - {workload.name for workload in WORKLOADS}:
            names = ", ".join(workload.name for workload in WORKLOADS)
            raise Refusal(f"--only: there is no {sorted(unknown)[0]!r}; there are {names}", ExitCode.USAGE)
        return [workload for workload in WORKLOADS if workload.name in wanted]


def show_bench(wish: Wish) -> ExitCode:
    """Measure, and show what was found. INTERRUPTED if a signal came; the schema is dropped then, too."""
    schema_of(None, wish.schema)  # refuses a bad name
    workloads = wish.workloads
    if wish.as_json and wish.as_markdown:
        raise Refusal("--json or --markdown, not both", ExitCode.USAGE)
    table = None if wish.as_json or wish.as_markdown else Table(len(workloads), wish.repeats)
    try:
        findings = run(_measured(wish, workloads, table))
    except asyncio.CancelledError:
        return ExitCode.INTERRUPTED
    except CannotWrite as failed:
        raise failed.error from None
    if table:
        table.end(findings)
    elif wish.as_json:
        write_json(as_document(findings))
    else:
        sys.stdout.write(as_markdown(findings))
    return ExitCode.OK


async def _measured(wish: Wish, workloads: Sequence[Workload], table: Table | None) -> Findings:
    with table or contextlib.nullcontext(), _ended_by_signals(table):
        async with App(wish.dsn).resolved_dsn() as dsn:
            with reaching(dsn):
                async with own_ground(dsn, wish.schema, wish.jobs) as ground:
                    findings = Findings(shown_dsn(dsn), wish.jobs, wish.repeats, await ground.settings())
                    if table:
                        table.begin(findings)
                    tell = table.tell if table else lambda series, last: None
                    findings.series += await measure(ground, workloads, wish.repeats, tell)
                    return findings


@contextlib.contextmanager
def _ended_by_signals(table: Table | None) -> Iterator[None]:
    """The first signal ends what runs; later ones do not cut short how it ends, which is bounded."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    numbers = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]

    def end() -> None:
        if task is not None and not task.cancelling():
            if table:
                table.stop()
            tell_now("stopped; the schema is being dropped")
            task.cancel()

    for number in numbers:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
