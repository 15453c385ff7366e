"""`app.bundles.graph`: what jobs that come after others look like, from their storing to their end."""

from jobqueue import JobState
from tests.support.jobs.working import new_app

COMPLETED, BLOCKED, READY, DEAD, CANCELLED = (
    JobState.COMPLETED, JobState.BLOCKED, JobState.READY, JobState.DEAD, JobState.CANCELLED,
)  # fmt: skip


async def test_a_graph_tells_what_has_become_of_its_jobs(database: str) -> None:
    """Stored, held up by a dead job, and completed after a retry; a job of no bundle and a callback are drawn too."""
    app, fails = new_app(database), [True]

    @app.task(max_attempts=1)
    async def load(number: int) -> int:
        if number == 2 and fails:
            raise OSError("secret")
        return number

    @app.task
    async def publish() -> None: ...

    async with app:
        alone = await load.defer(0)
        async with app.bundle("import", on_finish=publish.job()) as b:
            b.add(load.job(9))
            first, second = b.add(load.job(1), after=[alone]), b.add(load.job(2), after=[alone])
            last = b.add(publish.job(), after=[first, second])
            end = b.add(publish.job(), after=[last])

        async def states() -> list[JobState | None]:
            by_id = {job.id: job.state for job in (await app.bundles.graph(b.id)).jobs}
            return [by_id.pop(job.id) for job in (alone, first, second, last, end)]

        assert [READY, BLOCKED, BLOCKED, BLOCKED, BLOCKED] == await states()
        await app.run_until_idle()
        graph = await app.bundles.graph(b.id)
        assert [COMPLETED, COMPLETED, DEAD, CANCELLED, CANCELLED] == await states()
        assert f"…{str(second.id)[-8:]} load is dead (OSError): 2 jobs after it are cancelled\n\n" in graph.text
        assert (first.id, second.id) == graph.jobs[3].after
        assert [alone.id] == [job.id for job in graph.jobs if job.outside]
        assert "secret" not in graph.text + graph.mermaid
        assert {("load", 1, False), ("publish", 1, True)} == {
            (each.task, each.jobs, each.callback) for each in graph.unlinked
        }

        fails.clear()
        await app.bundles.retry(b.id)
        await app.run_until_idle()
        assert [COMPLETED] * 5 == await states()
        assert "is dead" not in (await app.bundles.graph(b.id)).text
