"""The phases of one run: those of earlier runs are found again, those of this one are recorded as they end."""

import asyncio
import contextlib
import inspect
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NoReturn

from jobqueue.base.errors import ClaimLost, ConfigurationError, DuplicatePhase, InvalidOption, InvalidPayload
from jobqueue.base.flows.phase import Found, PhaseKind, Record, Wait, Waking
from jobqueue.base.job import Job
from jobqueue.base.moments import plain_seconds
from jobqueue.base.names import check_name
from jobqueue.base.outcome import Cancel, Fatal, Retry, Snooze, Suspended
from jobqueue.store.flows.phases import FITTING, MOST_PHASES
from jobqueue.tasks.payload.adapter import Adapter
from jobqueue.tasks.phases.journal import Journal
from jobqueue.tasks.phases.parking import Parking
from jobqueue.tasks.phases.result import adapter_for, adapter_of, is_async
from jobqueue.tasks.phasing import How

_TELL_AFTER = 0.1
"""Seconds after which it is recorded that a phase has begun: of a quicker one it would double the price."""
_KNOWN = 100
"""Failures of a run whose phases are known."""
_DECIDED = (Retry, Snooze, Cancel, Fatal, ClaimLost)
"""After these a step is tried no second time: it has chosen the outcome of its job, or has no job any more."""


@dataclass(frozen=True, slots=True)
class Run:
    """What phases need of the run that they belong to."""

    number: int
    result_limit: int
    journal: Journal
    make_job: Callable[[], Job]
    asked: Callable[[], bool]
    """Whether the run was asked to end."""
    suspend: Callable[[Suspended], None]
    call_in_thread: Callable[[Callable[[], Any]], Awaitable[Any]]
    transact: Callable[[], AbstractAsyncContextManager[tuple[Any, Any]]]
    told: Callable[[BaseException], str]
    """An error as it is stored with a phase."""


@dataclass(slots=True)
class Step:
    """A phase of this run, from its begin on."""

    name: str
    kind: PhaseKind
    place: int
    began: float
    left_behind: bool = False
    """A thread of it has outlived its limit, and goes on."""

    def record(self, number: int, *, over: bool, **said: Any) -> Record:
        """Its last word."""
        return Record(self.name, self.kind, self.place, number, time.monotonic() - self.began, over, **said)


_inside: ContextVar[Step | None] = ContextVar("jobqueue_phase", default=None)


class Phases:
    """See `Phasing` and `JobContext`, which document what handlers call."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._parking = Parking(run.suspend)
        self._found: dict[str, Found] = {}
        self._loading = asyncio.Lock()
        self._loaded_at: float | None = None
        self._steps: dict[str, Step] = {}
        self._places = 0
        self._under_way: dict[str, Step] = {}
        self._tried_before = set[str]()
        """Steps that this run has begun: if one comes again, its end may be on record, and nobody has heard of that."""
        self._failed = deque[tuple[BaseException, Step]](maxlen=_KNOWN)

    async def phase(
        self, how: How, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any],
        *, in_transaction: bool = False,
    ) -> Any:  # fmt: skip
        """Run a step, or give what it has given before."""
        if not callable(fn):
            raise ConfigurationError(
                f"phase {name!r}: takes a function and its arguments, to call it here; this is a {type(fn).__name__}"
            )
        if in_transaction and not is_async(fn):
            raise ConfigurationError(f"phase {name!r}: phase_in_transaction takes an `async def` function")
        what, adapter = f"result of phase {name!r}", adapter_of(fn)
        async with self._step(name, "phase") as (step, found):
            if found is not None and found.over and not found.failed:
                return adapter.read(await self._result(found), what)
            once = self._once_in_transaction if in_transaction else self._once
            text = await self._tried(how, step, partial(once, step, adapter, how, fn, args, kwargs))
            return adapter.read(text, what)

    async def sleep(self, name: str, sleeps: float, until: datetime | None) -> None:
        """Sleep for so long, or until then, in all runs together."""
        async with self._step(name, "sleep") as (step, found):
            if found is not None and found.over:
                return
            waking = self._left(found) if found is not None else None
            if waking is None or waking.sleeps > 0:  # also again, so that it is on record that this run has come to it
                waking = await self._run.journal.record(
                    step.record(self._run.number, over=False, sleeps=sleeps, until=until)
                )
            if waking is None or waking.sleeps <= 0:
                self._run.journal.note(step.record(self._run.number, over=True, sleeps=sleeps, until=until))
                return
        await self._park(name, waking.at, None)

    async def wait_for(self, name: str, kind: Any, longest: float, signal: str) -> Any:
        """The payload of the next signal of this name."""
        adapter, what = adapter_for(kind), f"signal {signal!r}"
        async with self._step(name, "wait") as (step, found):
            if found is not None and found.over:
                if found.failed:
                    raise _too_late(name, signal)
                return adapter.read(await self._result(found), what)
            looked = await self._run.journal.look(Wait(name, signal, step.place, self._run.number, longest))
            if looked.payload is not None:
                return self._understood(step, adapter, looked.payload, what)
            if looked.waking.sleeps <= 0:
                late = _too_late(name, signal)
                await self._run.journal.record(step.record(self._run.number, over=True, error=self._run.told(late)))
                raise late
        return await self._park(name, looked.waking.at, looked.seen)

    async def _park(self, name: str, until: datetime, seen: int | None) -> NoReturn:
        try:
            await self._parking.park(name, until, seen)
        finally:
            self._steps.pop(name, None)  # whatever has cut this off, perhaps the handler itself: it may come once more

    async def result(self, name: str, kind: Any) -> Any:
        """What a completed phase of this job has given. Raises LookupError."""
        await self._load()
        found = self._found.get(check_name("name", name))
        if found is None or not found.over or found.failed or found.kind == "sleep":
            raise LookupError(f"this job has no completed phase {name!r} so far")
        return adapter_for(kind).read(await self._result(found), f"result of phase {name!r}")

    def place_of(self, error: BaseException | None) -> tuple[str, int] | None:
        """The name and place of the phase in which this error came up, or that was under way when the run was cut."""
        chain = [] if error is None else _chain(error)  # the error itself comes first, then what it stands for
        places = [step for each in chain for failure, step in self._failed if failure is each]
        if self._run.asked():
            places += self._under_way.values()
        return (places[0].name, places[0].place) if places else None

    def close(self) -> None:
        """The handler has ended."""
        self._parking.close()

    @contextlib.asynccontextmanager
    async def _step(self, name: str, kind: PhaseKind) -> AsyncIterator[tuple[Step, Found | None]]:
        """A new step of this run, and what earlier runs have left of it. If it fails, its name may come once more."""
        self._refuse_misuse(check_name("name", name), kind)
        self._places += 1
        step = self._steps[name] = Step(name, kind, self._places, time.monotonic())
        try:
            with self._parking.busy():
                yield step, await self._left_of(step)
        except BaseException as error:
            del self._steps[name]
            self._failed.append((error, step))
            raise

    async def _left_of(self, step: Step) -> Found | None:
        name, kind = step.name, step.kind
        await self._load()
        if self._run.asked():
            raise asyncio.CancelledError  # a handler that swallowed it begins nothing more
        found = self._found.get(name)
        if found is not None and found.kind != kind:
            raise ConfigurationError(
                f"phase {name!r}: an earlier run of this job has a {found.kind} of that name; take another name"
            )
        if found is None and len(self._found) >= MOST_PHASES:
            raise InvalidOption("name", f"a job has at most {MOST_PHASES} phases; for more make a bundle of jobs")
        return found

    def _refuse_misuse(self, name: str, kind: PhaseKind) -> None:
        outer = _inside.get()
        if outer is not None and self._steps.get(outer.name) is outer:  # else it is another job, which a step runs here
            what = {"phase": "a phase", "sleep": "ctx.sleep", "wait": "ctx.wait_for"}[kind]
            raise ConfigurationError(
                f"phase {name!r}: {what} cannot be inside phase {outer.name!r}; call it before or after"
            )
        if name in self._steps:
            raise DuplicatePhase(name)

    async def _load(self) -> None:
        if self._loaded_at is not None:
            return
        async with self._loading:
            if self._loaded_at is None:
                found = await self._run.journal.load()
                self._loaded_at = time.monotonic()
                self._found = {each.name: each for each in found}

    def _left(self, found: Found) -> Waking | None:
        if found.wake_at is None or found.sleeps is None or self._loaded_at is None:
            return None
        return Waking(found.wake_at, found.sleeps - (time.monotonic() - self._loaded_at))

    async def _result(self, found: Found) -> str:
        text = found.result
        if text is None:
            text = await self._run.journal.result_of(found.name)
        return "null" if text is None else text

    async def _tried(self, how: How, step: Step, attempt: Callable[[], Awaitable[str]]) -> str:
        """The result of the first try that gives one. Raises what the last one raised."""
        self._under_way[step.name] = step
        try:
            text = await self._try_often(how, step, attempt)
        except Exception as error:
            self._run.journal.note(step.record(self._run.number, over=True, error=self._run.told(error)))
            raise
        finally:
            if not self._run.asked():
                self._under_way.pop(step.name, None)
        self._found[step.name] = Found(
            step.name, "phase", step.place, over=True, failed=False, result=text if len(text) <= FITTING else None
        )
        return text

    async def _try_often(self, how: How, step: Step, attempt: Callable[[], Awaitable[str]]) -> str:
        tries = 1
        while True:
            if step.name in self._tried_before and (kept := await self._run.journal.result_of(step.name)) is not None:
                return kept
            self._tried_before.add(step.name)
            try:
                return await attempt()
            except Exception as error:
                if tries >= how.max_attempts or isinstance(error, _DECIDED) or step.left_behind:
                    raise
                delay = await _delay(how, replace(self._run.make_job(), attempt=tries), error)
                if delay is None:
                    raise
            await asyncio.sleep(delay)
            tries += 1

    async def _once(
        self, step: Step, adapter: Adapter, how: How, fn: Callable[..., Any], args: Any, kwargs: Any
    ) -> str:
        text = self._written(step, adapter, await self._called(step, partial(fn, *args, **kwargs), how.timeout))
        with _never_again():
            await self._run.journal.record(step.record(self._run.number, over=True, result=text))
        return text

    async def _once_in_transaction(
        self, step: Step, adapter: Adapter, how: How, fn: Callable[..., Any], args: Any, kwargs: Any
    ) -> str:
        async with self._run.transact() as (connection, _):
            call = partial(fn, connection, *args, **kwargs)
            text = self._written(step, adapter, await self._called(step, call, how.timeout))
            with _never_again():
                await self._run.journal.record_on(connection, step.record(self._run.number, over=True, result=text))
        return text

    def _written(self, step: Step, adapter: Adapter, value: Any) -> str:
        with _never_again():
            return adapter.write(value, f"result of phase {step.name!r}", self._run.result_limit, "max_result")

    async def _called(self, step: Step, call: Callable[[], Any], timeout: float | None) -> Any:
        token, limit = _inside.set(step), asyncio.timeout(timeout)
        begins = asyncio.get_running_loop().call_later(_TELL_AFTER, self._tell_begin, step)
        in_thread = not is_async(call)
        try:
            async with limit:
                value = await self._run.call_in_thread(call) if in_thread else call()
                in_thread = False
                return await value if inspect.isawaitable(value) else value
        except TimeoutError as error:
            if not limit.expired():
                raise
            step.left_behind = in_thread
            raise TimeoutError(f"phase {step.name!r}: timeout after {timeout:g} s") from error.__cause__
        finally:
            begins.cancel()  # from here on its end is to be recorded, and nothing else of it
            _inside.reset(token)

    def _tell_begin(self, step: Step) -> None:
        self._run.journal.note(step.record(self._run.number, over=False))

    def _understood(self, step: Step, adapter: Adapter, payload: str, what: str) -> Any:
        """A signal by its type. One that does not fit is gone: the next run waits for the next one."""
        try:
            value = adapter.read(payload, what)
        except InvalidPayload:
            self._run.journal.note(step.record(self._run.number, over=False))
            raise
        result = payload if len(payload) <= FITTING else None
        self._found[step.name] = Found(step.name, "wait", step.place, over=True, failed=False, result=result)
        return value


@contextlib.contextmanager
def _never_again() -> Iterator[None]:
    """The effect of a result that cannot be stored has happened: trying it again would repeat that."""
    try:
        yield
    except InvalidPayload as error:
        raise Fatal(str(error)) from None


async def _delay(how: How, job: Job, error: BaseException) -> float | None:
    """Seconds until the next try; None if the policy wants none."""
    answer = how.retry(job, error)
    answer = await answer if inspect.isawaitable(answer) else answer
    if answer is None:
        return None
    if isinstance(answer, datetime):
        answer = answer - datetime.now(UTC)
    seconds = answer.total_seconds() if isinstance(answer, timedelta) else plain_seconds("delay", answer)
    return max(0.0, seconds)


def _too_late(name: str, signal: str) -> TimeoutError:
    named = "" if name == signal else f" in {name!r}"
    return TimeoutError(f"no signal {signal!r} came{named} within the time given")


def _chain(error: BaseException) -> list[BaseException]:
    """The error, and those that it stands for."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or any(each is known for known in found):
            continue
        found.append(each)
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
    return found
