"""Synchronous replication: what is acknowledged must be on the standby as well."""

from jobqueue.store.connection.executor import Executor


async def await_standby(executor: Executor) -> None:
    """To be called before somebody is told that a thing was done before: who did it has perhaps not waited long enough.

    Then a write makes this commit wait for the standby. Where no commit does, it writes nothing.
    """
    await executor.fetch("await_standby")
