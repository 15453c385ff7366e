"""Batch tasks before any worker: what may be one, what is deferred, and `run`."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import anyio
import pytest
from pydantic import BaseModel

from jobqueue import current_job
from jobqueue.base.errors import DuplicateTask, InvalidOption, InvalidPayload, InvalidSignature, JobCancelled
from jobqueue.base.outcome import Cancel, Retry
from jobqueue.tasks.context import JobContext
from jobqueue.tasks.router import Router
from jobqueue.tasks.run.batch import BatchSignature
from tests.tasks.recording import Recorder

if TYPE_CHECKING:
    from decimal import Decimal as Unknown


class Doc(BaseModel):
    text: str


def included(router: Router) -> Recorder:
    recorder = Recorder()
    router.join(recorder)
    return recorder


async def index(docs: list[Doc]) -> list[int | Exception]:
    """Index documents."""
    return [len(doc.text) if doc.text else ValueError("empty") for doc in docs]


async def test_each_item_is_a_job() -> None:
    """S0-03: `defer`, `defer_many` and `job` take one item each, and its handle decodes one result."""
    router = Router("shop.", queue="search")
    task = router.batch_task(size=5, wait=timedelta(seconds=2), timeout=30, max_attempts=3, aliases=["old"])(index)
    recorder = included(router)

    one = await task.defer(Doc(text="a"))
    many = await task.defer_many([Doc(text="b"), Doc(text="c")])
    job = task.options(priority=3).job(Doc(text="d"))

    sent = [*recorder.sent, job]
    assert ['{"docs":{"text":"a"}}', '{"docs":{"text":"b"}}', '{"docs":{"text":"c"}}'] == [new.args for new in sent[:3]]
    assert {("shop.index", "search", 30.0, 3)} == {(new.task, new.queue, new.timeout, new.max_attempts) for new in sent}
    assert [0, 0, 0, 3] == [new.priority for new in sent]
    assert (one.id, many[1].id) == (sent[0].id, sent[2].id)
    assert job.decode_result is not None
    assert 4 == job.decode_result("4")
    assert task.batch is not None
    assert (5, 2.0) == (task.batch.size, task.batch.wait)
    assert {"shop.index", "old"} == router.registry.names
    assert "Index documents." == task.__doc__


async def test_it_is_still_its_function() -> None:
    """S0-03: called, a batch task takes the list."""
    task = Router().batch_task()(index)
    call: Any = task

    answer = await call([Doc(text="ab"), Doc(text="")])

    assert 2 == answer[0]
    assert isinstance(answer[1], ValueError)


def test_the_same_name_is_refused() -> None:
    """Batch tasks share the names of all tasks."""
    router = Router()
    router.batch_task(name="index")(index)

    with pytest.raises(DuplicateTask, match="index"):

        @router.task(name="index")
        async def other(n: int) -> None: ...


async def no_results(docs: list[str]) -> None: ...


async def exceptions_beside(docs: list[int]) -> list[str | ValueError | Retry | BaseException]:
    return []


async def optional(docs: list[str]) -> Sequence[int | None]:
    return []


async def nothing_or_failure(docs: list[str | None], /) -> list[Exception | None]:
    return []


def plain(docs: list[str]) -> list[Annotated[str, "note"]]:
    return docs


async def anything(docs: list[Any]) -> list[Any]:
    return docs


@pytest.mark.parametrize(
    ("function", "returns", "gives"),
    [
        (no_results, type(None), False),
        (exceptions_beside, str, True),
        (optional, int | None, True),
        (nothing_or_failure, type(None), True),
        (plain, Annotated[str, "note"], True),
        (anything, Any, True),
    ],
)
def test_the_signature_is_that_of_one_item(function: Callable[..., Any], returns: object, gives: bool) -> None:
    """S0-03: the parameter is one item; the result is what the list holds, exceptions left out."""
    signature = BatchSignature.of(function)

    assert (("docs",), False, True) == (signature.parameters, signature.wants_context, signature.is_async)
    assert returns == signature.returns
    assert isinstance(signature, BatchSignature)
    assert (gives, function is not plain) == (signature.gives_results, signature.handler_is_async)


async def with_context(ctx: JobContext, docs: list[str]) -> None: ...


async def no_parameter() -> None: ...


async def two(docs: list[str], more: int) -> None: ...


async def one_item(doc: str) -> None: ...


async def bare(docs: list) -> None: ...  # type: ignore[type-arg]


async def other_kind(docs: Sequence[str]) -> None: ...


async def by_name(*, docs: list[str]) -> None: ...


NO_DOCS: list[str] = []


async def has_default(docs: list[str] = NO_DOCS) -> None: ...


async def no_result_said(docs: list[str]):  # type: ignore[no-untyped-def]
    pass


async def gives_one(docs: list[str]) -> str:
    return ""


async def gives_dict(docs: list[str]) -> dict[str, str]:
    return {}


async def perhaps(docs: list[str]) -> list[str] | None:
    return None


async def never(docs: list[str]) -> NoReturn:
    raise OSError


async def only_failures(docs: list[str]) -> list[ValueError | OSError]:
    return []


async def unstorable_result(docs: list[str]) -> list[asyncio.Event]:
    return []


async def varied(*docs: list[str]) -> None: ...


async def gives_bare(docs: list[str]) -> list:  # type: ignore[type-arg]
    return []


@pytest.mark.parametrize(
    ("function", "rule"),
    [
        (with_context, "a batch has many jobs, so its function gets no JobContext"),
        (no_parameter, r"takes one parameter, annotated list\[...\]; this one has 0"),
        (two, r"takes one parameter, annotated list\[...\]; this one has 2"),
        (one_item, r"parameter 'doc': must be annotated list\[...\]"),
        (bare, r"parameter 'docs': must be annotated list\[...\]"),
        (other_kind, r"parameter 'docs': must be annotated list\[...\]"),
        (by_name, "parameter 'docs': the list of items must be a positional parameter"),
        (has_default, "parameter 'docs': its default is a list"),
        (no_result_said, r"the result: must be annotated None, or list\[...\]"),
        (gives_one, r"the result: must be annotated None, or list\[...\]"),
        (gives_dict, r"the result: must be annotated None, or list\[...\]"),
        (perhaps, r"the result: must be annotated None, or list\[...\]"),
        (never, r"the result: must be annotated None, or list\[...\]"),
        (gives_bare, r"the result: must be annotated None, or list\[...\]"),
        (only_failures, r"its list has exceptions only; write list\[Exception \| None\]"),
        (unstorable_result, "the result: pydantic cannot handle its annotation"),
        (varied, r"parameter \*docs"),
    ],
)
def test_what_cannot_be_a_batch_task(function: Callable[..., Any], rule: str) -> None:
    """S0-03: each function that cannot be one is refused at its decoration, by name, with a sentence of its own."""
    with pytest.raises(InvalidSignature, match=rule) as refusal:
        Router().batch_task()(function)

    assert function.__name__ in str(refusal.value)


def test_annotations_may_come_later() -> None:
    """A name that is unknown at decoration is looked up again before the first use, and named if it stays unknown."""

    async def later(docs: "list[Unknown]") -> None: ...

    task = Router().batch_task()(later)

    with pytest.raises(InvalidSignature, match=r"parameter 'docs': the name 'Unknown'"):
        task.signature.resolve()


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None, "5", 10_001])
def test_a_bad_size_is_refused(size: Any) -> None:
    """S0-03: `size` is a whole number from 1 to 10 000; the error names it."""
    with pytest.raises(InvalidOption, match="size: must be a whole number from 1 to 10000"):
        Router().batch_task(size=size)


@pytest.mark.parametrize("wait", [-0.1, float("nan"), float("inf"), True, None, "1", timedelta(hours=2)])
def test_a_bad_wait_is_refused(wait: Any) -> None:
    """S0-03: `wait` is a length of time from 0 to an hour; the error names it."""
    with pytest.raises(InvalidOption, match=r"wait: must be (from 0 to 3600 seconds|a number of seconds)"):
        Router().batch_task(wait=wait)


@pytest.mark.parametrize(("wait", "timeout"), [(1, 0.3), (1, 1), (timedelta(seconds=2), timedelta(seconds=1))])
def test_a_timeout_is_more_than_the_wait(wait: Any, timeout: Any) -> None:
    """S0-03: or every item that waits for others would die before its handler begins; for one call too."""
    rule = "timeout: must be more than wait: an item waits up to [12] s for others first"
    with pytest.raises(InvalidOption, match=rule):
        Router().batch_task(wait=wait, timeout=timeout)
    task = Router().batch_task(wait=wait, timeout=5)(index)
    with pytest.raises(InvalidOption, match=rule):
        task.options(timeout=timeout)
    assert task.options(priority=1, timeout=5) is not task
    Router().batch_task(wait=0, timeout=0.001)


def test_other_options_are_checked_too() -> None:
    """The options of a task hold for batch tasks, and are refused by name."""
    with pytest.raises(InvalidOption, match="timeout"):
        Router().batch_task(timeout=-1)
    with pytest.raises(InvalidOption, match="aliases"):
        Router().batch_task(aliases="old")


async def test_run_makes_a_batch_of_one() -> None:
    """S0-03, S4-20: `run` calls the handler with a list of one, and gives or raises what that means to the item."""
    router = Router()
    sizes: list[int] = []

    @router.batch_task()
    async def measure(docs: list[Doc]) -> list[int | Exception]:
        sizes.append(len(docs))
        return [Cancel("no text") if not doc.text else OSError(doc.text) if doc.text == "x" else 7 for doc in docs]

    @router.batch_task()
    def plainly(docs: list[str], /) -> list[str]:
        return [doc.upper() for doc in docs]

    @router.batch_task()
    async def wrongly(docs: list[str]) -> list[str]:
        return []

    assert 7 == await measure.run(Doc(text="ab"))
    assert "A" == await plainly.run("a")
    with pytest.raises(JobCancelled, match="no text"):
        await measure.run(Doc(text=""))
    with pytest.raises(OSError, match="x"):
        await measure.run(Doc(text="x"))
    with pytest.raises(InvalidPayload, match="a list of 1, one for each item of the batch in its order, not of 0"):
        await wrongly.run("a")
    assert [1, 1, 1] == sizes


async def test_run_has_no_current_job_either() -> None:
    """As in a worker, there is no current job in a batch; other context variables are the caller's."""
    router = Router()
    found: list[str] = []

    def look() -> None:
        with pytest.raises(LookupError, match="no job runs here"):
            current_job()
        found.append("none")

    @router.batch_task()
    async def inside(docs: list[str]) -> None:
        look()

    @router.batch_task()
    def inside_thread(docs: list[str]) -> None:
        look()

    @router.task
    async def around() -> None:
        await inside.run("a")
        await inside_thread.run("a")

    await around.run()

    assert ["none", "none"] == found


async def test_a_cancelled_run_cancels_the_handler() -> None:
    """The caller's cancellation is the batch's, which cleans up first."""
    router = Router()
    began = asyncio.Event()
    cleaned: list[str] = []

    @router.batch_task()
    async def work(docs: list[str]) -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await anyio.lowlevel.checkpoint()
            cleaned.append("cleaned")

    running = asyncio.create_task(work.run("a"))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert ["cleaned"] == cleaned
