"""`app.bundles`: look at bundles, wait for them, and steer them."""

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar, overload
from uuid import UUID

import anyio

from jobqueue.base.acting.audit import By, Doer
from jobqueue.base.errors import BundleNotFound, InvalidOption, InvalidPayload, WaitTimeout
from jobqueue.base.flows.bundle import Bundle, BundleCounts
from jobqueue.base.job import JobState
from jobqueue.base.moments import Seconds, check_delay
from jobqueue.base.names import check_name, check_whole
from jobqueue.base.service import Patience
from jobqueue.base.steering import Action, Changes
from jobqueue.bundles.graph import BundleGraph
from jobqueue.store.acting.audit import Noted, beginning, noting
from jobqueue.store.connection.edge import executor_for, own_session
from jobqueue.store.connection.executor import Executor
from jobqueue.store.connection.faults import DATABASE_ERRORS, Fault, classify
from jobqueue.store.connection.pool import Database
from jobqueue.store.connection.session import Session
from jobqueue.store.flows import bundles
from jobqueue.store.flows.dependencies import results_before
from jobqueue.store.flows.graphs import read_graph
from jobqueue.store.looking.listing import JobPage
from jobqueue.store.looking.overview import count_bundles
from jobqueue.tasks.jobs import Jobs
from jobqueue.tasks.options import check_id
from jobqueue.tasks.sending.waiting import awaiting
from jobqueue.tasks.task import Task

R = TypeVar("R")
_HIGHEST = UUID(int=2**128 - 1)
_LOWEST = UUID(int=0)
_PAGE, _PAGE_LIMIT = 500, 1_000
_POLL_FIRST, _POLL_CAP = 0.01, 0.5


class Bundles:
    """Reads and steers bundles; finished ones for as long as `keep_other`. `by` is who does it, for the audit.

    With `connection` a look sees what the caller's open transaction has stored.
    """

    def __init__(
        self, database: Callable[[], Awaitable[Database]], on: Callable[[object], Executor] | None, jobs: Jobs
    ) -> None:
        """`on` gives the executor for a caller's connection; None where nobody has one."""
        self._database = database
        self._on = on
        self._jobs = jobs

    async def get(self, id: UUID | str, *, connection: object | None = None) -> Bundle:
        """The bundle as it stands now, what has just ended included. Raises BundleNotFound."""
        meant = check_id(id)
        async with self._executor(connection) as executor:
            found = await bundles.find_bundle(executor, meant)
        if found is None:
            raise BundleNotFound(meant)
        return found

    async def list(
        self,
        *,
        unfinished: bool = False,
        name: str | None = None,
        after: UUID | None = None,
        limit: int = 50,
        connection: object | None = None,
    ) -> Sequence[Bundle]:
        """Bundles, the newest first; `after=page[-1].id` goes on. Raises InvalidOption."""
        if check_whole("limit", limit, (1, _PAGE_LIMIT)) is None:
            raise InvalidOption("limit", f"must be a whole number from 1 to {_PAGE_LIMIT}")
        if name is not None:
            check_name("name", name)
        async with self._executor(connection) as executor:
            return await bundles.list_bundles(executor, after or _HIGHEST, limit, unfinished=unfinished, name=name)

    async def counts(self, *, connection: object | None = None) -> BundleCounts:
        """How many there are: some milliseconds, whether a hundred or a million."""
        async with self._executor(connection) as executor:
            return await count_bundles(executor)

    async def members(
        self,
        id: UUID | str,
        *,
        state: JobState | str | Sequence[JobState | str] | None = None,
        after: UUID | None = None,
        limit: int = 50,
        payload: bool = False,
        connection: object | None = None,
    ) -> JobPage:
        """Its jobs, callbacks too, the newest first: `jobs.list(bundle=id)`, as long as the archive keeps them."""
        return await self._jobs.list(
            bundle=check_id(id), state=state, after=after, limit=limit, payload=payload, connection=connection
        )

    @overload
    async def results(
        self, id: UUID | str, task: Callable[..., Coroutine[Any, Any, R]], *, connection: object | None = None
    ) -> dict[UUID, R]: ...
    @overload
    async def results(
        self, id: UUID | str, task: Callable[..., R], *, connection: object | None = None
    ) -> dict[UUID, R]: ...
    async def results(
        self, id: UUID | str, task: Callable[..., Any], *, connection: object | None = None
    ) -> dict[UUID, Any]:
        """The results of its completed members of one task, by their ids, in the order in which those were made.

        Raises InvalidOption for what is no task, InvalidPayload if a result does not fit the annotation any more.
        """
        of, found, after = task_of(task), dict[UUID, Any](), _LOWEST
        async with self._executor(connection) as executor:
            while page := await bundles.results_of(executor, check_id(id), of.name, after, _PAGE):
                found |= {each: of.signature.decode_result(result) for each, result in page}
                after = page[-1][0]
        return found

    async def results_before(self, id: UUID, job: UUID, task: Callable[..., Any]) -> Sequence[Any]:
        """What `ctx.results(task)` gives this job of the bundle."""
        of, found, after = task_of(task), dict[int, Any](), 0
        async with self._session() as executor:
            while page := await results_before(executor, id, job, of.name, after, _PAGE):
                if any(result is None for _, result in page):
                    raise InvalidPayload(
                        f"{of.name} result", "", "gone", "is gone: deleted, or pruned, before it was kept"
                    )
                found |= {place: of.signature.decode_result(result) for place, result in page if result is not None}
                after = page[-1][0]
        return [*found.values()]

    async def graph(self, id: UUID | str, *, connection: object | None = None) -> BundleGraph:
        """Which of its jobs come after which, and what has become of each; `print(graph)`, or `graph.mermaid`.

        Raises BundleNotFound.
        """
        bundle = await self.get(id, connection=connection)
        async with self._executor(connection) as executor:
            return BundleGraph(bundle, *await read_graph(executor, bundle.id))

    async def resolve(self, part: str) -> Sequence[UUID]:
        """Ids that begin or end like this, of the newest bundles."""
        async with self._session() as executor:
            return await bundles.find_by_part(executor, part.lower())

    async def wait(
        self, id: UUID | str, timeout: Seconds | None = None, *, looked: Callable[[Bundle], object] | None = None
    ) -> Bundle:
        """The bundle once it has ended; `looked` is called with what each look finds.

        Cancelling the wait leaves the bundle alone. Raises BundleNotFound, WaitTimeout.
        """
        limit = None if timeout is None else check_delay("timeout", timeout)
        patience = Patience(first=_POLL_FIRST, cap=_POLL_CAP)
        bundle = await self._looked_at(id, looked)  # what has ended is told, however short the limit
        with anyio.move_on_after(limit), awaiting(bundle.id):
            while not bundle.finished:
                if bundle.pending or bundle.open or not await self._added_up(bundle.id):
                    await anyio.sleep(patience.next())
                bundle = await self._looked_at(id, looked)
        if not bundle.finished:
            raise WaitTimeout("bundle", bundle.id, limit or 0.0, _standing(bundle))
        return bundle

    async def _looked_at(self, id: UUID | str, looked: Callable[[Bundle], object] | None) -> Bundle:
        bundle = await self.get(id)
        if looked is not None:
            looked(bundle)
        return bundle

    async def close(self, id: UUID | str, *, by: Doer | None = None) -> Bundle:
        """Let it end though whoever made it did not come to the end of the block. Raises BundleNotFound."""
        doer = By.of(by)
        bundle = await self.get(id)
        async with self._session() as executor:
            async with noting(executor, doer, "bundle.close", bundle=str(bundle.id), name=bundle.name):
                await bundles.add_to_bundle(executor, bundle.id, 0, close=True)
            await bundles.touch_bundle(executor, bundle.id)
        return await self.get(bundle.id)

    async def cancel(self, id: UUID | str, *, by: Doer | None = None) -> Changes:
        """End it: nothing is added from outside any more, and its unfinished members are cancelled, bundles in it too.

        Its callbacks are not: `on_failure` runs. Says what became of each member. Raises BundleNotFound.
        """
        doer = By.of(by)
        bundle = await self.get(id)
        return await self._cancel(bundle.id, _note(Action.CANCEL, bundle, doer))

    async def _cancel(self, id: UUID, note: Noted | None) -> Changes:
        done = Changes()
        async with self._session() as executor:
            async with beginning(executor, note):
                await bundles.ask_to_end(executor, id)
            await bundles.touch_bundle(executor, id)
            children = await bundles.children_of(executor, id)
        _join(done, await self._jobs.steer(Action.CANCEL, (), {"bundle": id}, by=note))
        for child in children:
            _join(done, await self._cancel(child, note))
        return done

    async def retry(self, id: UUID | str, *, by: Doer | None = None) -> Changes:
        """Run its dead members again, those of bundles in it too; it ends once more. Raises BundleNotFound."""
        doer = By.of(by)
        bundle = await self.get(id)
        return await self._retry(bundle.id, _note(Action.RETRY, bundle, doer))

    async def _retry(self, id: UUID, note: Noted | None) -> Changes:
        done = Changes()
        _join(done, await self._jobs.steer(Action.RETRY, (), {"bundle": id}, by=note))
        async with self._session() as executor:
            children = await bundles.children_of(executor, id)
        for child in children:
            _join(done, await self._retry(child, note))
        return done

    async def delete(self, id: UUID | str, *, by: Doer | None = None) -> Changes:
        """Remove it with its members and the bundles in it. What runs is left, and the bundle then too: cancel first.

        Its callbacks are not called any more, also if it is left. Raises BundleNotFound.
        """
        doer = By.of(by)
        bundle = await self.get(id)
        return await self._delete(bundle.id, _note(Action.DELETE, bundle, doer))

    async def _delete(self, id: UUID, note: Noted | None) -> Changes:
        done = Changes()
        async with self._session() as executor:
            async with beginning(executor, note):
                await bundles.mute(executor, id)
            children = await bundles.children_of(executor, id)
        for child in children:
            _join(done, await self._delete(child, note))
        _join(done, await self._jobs.steer(Action.DELETE, (), {"bundle": id}, by=note))
        async with self._session() as executor:
            await bundles.delete_bundle(executor, id)
        return done

    async def _added_up(self, id: UUID) -> bool:
        """Whether it could be: no worker may be there. Others may have its row, and a reader may write nothing."""
        async with self._session() as executor:
            try:
                return any(one.finished for one in await bundles.fold_bundles(executor, [id]))
            except DATABASE_ERRORS as error:
                if classify(error) in (Fault.SETUP, Fault.READ_ONLY, Fault.BAD_DATA):
                    return False
                raise

    def _executor(self, connection: object | None) -> contextlib.AbstractAsyncContextManager[Executor]:
        return executor_for(connection, self._on, self._database)

    def _session(self) -> contextlib.AbstractAsyncContextManager[Session]:
        return own_session(self._database)


def _standing(bundle: Bundle) -> str:
    if bundle.pending:
        return f"{bundle.pending} of its {bundle.added} jobs are left"
    return "it is open, more may be added; `app.bundles.close` ends that" if bundle.open else "its end is being written"


def _note(action: Action, bundle: Bundle, by: By | None) -> Noted | None:
    return None if by is None else Noted(by, f"bundle.{action}", {"bundle": str(bundle.id), "name": bundle.name})


def _join(done: Changes, more: Changes) -> None:
    done.each.update(more.each)
    done.locked.update(more.locked)


def task_of(given: object) -> Task[Any, Any]:
    if not isinstance(given, Task):
        raise InvalidOption("task", "must be a task, as @app.task makes it")
    return given
