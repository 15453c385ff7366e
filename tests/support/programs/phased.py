"""Worker processes whose jobs have phases, and one who hears what becomes of them: as a browser does, and by webhooks.

A phase notes in a file that it runs. One that is told to waits there until the test lets its job go on.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from jobqueue import App, Job, JobState, Phase, PhaseState, Task, Webhook
from jobqueue.web import events
from tests.support.books import whole_lines
from tests.support.jobs.working import asked, new_app
from tests.support.programs.processes import CommandLine, Process, command_line
from tests.support.receiver import HERE, KEY, Receiver, receiving
from tests.support.waiting import wait_until
from tests.web.streams import Message, everybody, site, streaming

MODULE = """
import asyncio, os, uuid
from jobqueue import App, JobContext, Settings, current_job

BOOK = os.open(os.environ["PHASED_BOOK"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
app = App(os.environ["PHASED_DSN"], settings=Settings(webhook_networks=("127.0.0.1/32",)))

def note(word):
    os.write(BOOK, f"\\n{current_job().job.id} {word};\\n".encode())

def may_go_on():
    return os.path.exists(f"{os.environ['PHASED_BOOK']}.{current_job().job.id}")

async def extract(pages):
    note("extract")
    return {"pages": pages, "mark": str(uuid.uuid4())}

async def summarize(extracted, how):
    note("summarize")
    if how == "held":
        current_job().progress(0.5, "half of it", {"page": extracted["pages"] // 2})
        while not may_go_on():
            await asyncio.sleep(0.01)
    return {"of": extracted["mark"], "mark": str(uuid.uuid4())}

def publish(summary, how):
    note("publish")
    if how == "fails" and not may_go_on():
        raise OSError("out of paper")
    return summary["mark"]

@app.task
async def digest(ctx: JobContext, pages: int, how: str = "") -> str:
    extracted = await ctx.phase("extract", extract, pages)
    summary = await ctx.phase("summarize", summarize, extracted, how)
    if how == "waits":
        await ctx.wait_for("go", str)
    return await ctx.phase("publish", publish, summary, how)

async def turn(page):
    return page

@app.task
async def read(ctx: JobContext, pages: int) -> None:
    for page in range(pages):
        await ctx.phase(f"page {page}", turn, page)
"""


async def digest(pages: int, how: str = "") -> str:
    """Stands for the task of the workers' module.

    `how`: its third phase `fails` until it may go on; the second is `held` until then; or it `waits` for a signal
    between these.
    """
    raise AssertionError("it runs in another process")


async def read(pages: int) -> None:
    """As `digest`, with so many phases that do next to nothing."""
    raise AssertionError("it runs in another process")


@dataclass
class Phased:
    """Worker processes, a producer, and what was heard of the jobs."""

    app: App
    dsn: str
    cli: CommandLine
    digest: Task[..., Any]
    read: Task[..., Any]
    receiver: Receiver
    hook: Webhook
    streamed: list[Message] = field(default_factory=list)

    @property
    def _book(self) -> Path:
        return self.cli.folder / "book"

    def start(self, *options: str, **environment: str) -> Process:
        """A worker process."""
        return self.cli.start("worker", "phased", *options, **environment)

    async def stop(self, *workers: Process) -> None:
        """In order."""
        for worker in workers:
            worker.signal(signal.SIGTERM)
        for worker in workers:
            assert 0 == await worker.ends(), worker.err

    def let_go(self, id: UUID) -> None:
        """This job may go on."""
        Path(f"{self._book}.{id}").touch()

    def runs(self, id: UUID) -> dict[str, int]:
        """How often each phase of a job was run."""
        lines = map(str.split, whole_lines(self._book))
        return dict(Counter(word for job, word in lines if job == str(id)))

    async def becomes(self, id: UUID, state: JobState) -> Job:
        """The job once it is in this state."""
        found: list[Job] = []

        async def is_there() -> bool:
            found[:] = [await self.app.jobs.get(id)]
            return found[0].state is state

        await wait_until(is_there, f"the job is {state}")
        return found[0]

    async def phases(self, id: UUID) -> dict[str, Phase]:
        """The phases of a job by their names."""
        return {phase.name: phase for phase in await self.app.jobs.phases(id)}

    async def states(self, id: UUID) -> dict[str, str]:
        """Where they are."""
        return {name: str(phase.state) for name, phase in (await self.phases(id)).items()}

    async def results(self, id: UUID) -> dict[str, bytes]:
        """What they have given, as it is stored."""
        return {
            phase.name: phase.result_json.encode()
            for phase in (await self.phases(id)).values()
            if phase.state is PhaseState.COMPLETED and phase.result_json is not None
        }

    async def reaches(self, id: UUID, phase: str, state: PhaseState) -> None:
        """Return once a phase is in this state."""

        async def is_there() -> bool:
            return (await self.states(id)).get(phase) == state

        await wait_until(is_there, f"phase {phase!r} is {state}")

    def told(self, id: UUID) -> list[str]:
        """What a browser was told of a job: of its phases how they ended, and not that it runs and how far it is."""
        told = []
        for message in self.streamed:
            about = message.data.get("data") or {"phase": "", "state": (message.event or "").removeprefix("job.")}
            if message.job == id and about["state"] not in ("started", "progress", "running"):
                told.append(f"{about['phase']} {about['state']}".strip())
        return told

    async def is_told(self, id: UUID, *words: str) -> None:
        """Return once a browser was told so much; then it was told this."""
        await wait_until(lambda: len(self.told(id)) >= len(words), f"{len(words)} events came")
        assert list(words) == self.told(id)

    def posted(self, id: UUID) -> list[str]:
        """What the receiver was told of a job."""
        return [post.json["type"] for post in self.receiver.posts if post.json["data"]["job_id"] == str(id)]

    async def delivered(self, count: int) -> None:
        """Return once so many deliveries have succeeded; then there are no others, and the receiver had each once."""
        path = f"webhook:{self.hook.id}"
        ended = "select count(*) from jobqueue.job_archive where origin = $1 and state = 'completed'"

        async def are_there() -> bool:
            return int(await asked(self.dsn, ended, path)) >= count

        await wait_until(are_there, f"{count} deliveries are completed")
        others = await asked(self.dsn, "select count(*) from jobqueue.job where origin = $1", path)
        assert (count, 0) == (len({post.id for post in self.receiver.posts}), others)
        assert count == len(self.receiver.posts)

    async def listen(self, url: str) -> None:
        """Stream as a browser does, which comes back whenever a stream ends."""
        place = "0"
        while True:
            async with streaming(url, after=place) as stream:
                async for message in stream.messages():
                    place = message.id
                    if message.event is not None:
                        self.streamed.append(message)


@asynccontextmanager
async def phased(dsn: str, folder: Path) -> AsyncIterator[Phased]:
    """No worker runs yet; whatever becomes of a job is heard from the start. Needs `JOBQUEUE_WEBHOOK_KEY`."""
    app = new_app(dsn, name="phased", webhook_networks=HERE)
    with command_line(folder) as cli:
        cli.module("phased", MODULE)
        cli.environment |= {"PHASED_DSN": dsn, "PHASED_BOOK": str(folder / "book"), "JOBQUEUE_WEBHOOK_KEY": KEY}
        async with app, receiving() as receiver, site(events(app, authorize=everybody)) as url:
            hook = await app.webhooks.create(receiver.url, {"job.completed", "job.cancelled", "job.dead"})
            tasks = app.task(follow=True, max_attempts=3)(digest), app.task(queue="books")(read)
            flow = Phased(app, dsn, cli, *tasks, receiver, hook)
            listening = asyncio.create_task(flow.listen(url))
            try:
                yield flow
            finally:
                listening.cancel()
                with suppress(asyncio.CancelledError):
                    await listening
