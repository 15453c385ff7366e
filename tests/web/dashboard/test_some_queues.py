"""Who sees some queues only: what is of all together is not told, also not right after somebody else has seen it."""

from jobqueue.web import Access
from tests.support.jobs.working import asked, new_app
from tests.web.dashboard.visiting import OPERATOR, together


async def test_what_is_counted_for_all_together_is_not_told(database: str) -> None:
    """Rates, the last hour, a day of a task, how much workers do, tasks that no worker knows."""
    app = new_app(database)

    @app.task(queue="mail")
    async def note() -> None: ...

    aside = "insert into jobqueue.job (queue, task, state, via, aside_since) values ('bank', 'gone', 'scheduled',"
    await asked(database, f"{aside} 'py', now()) returning id")
    eve = Access("eve", operate=True, payloads=True, queues=["mail"])
    async with app, app.worker(["bank"]), together(app, OPERATOR, eve) as (all_of_it, mails):
        await all_of_it.get("/api/v1/overview")
        await all_of_it.post("/act/queues/pause", data={"queue": "mail"})  # who looks now makes a look of his own
        for client, whole in ((all_of_it, True), (mails, False)):
            overview = (await client.get("/api/v1/overview")).json()
            recent = (await client.get("/api/v1/recent")).json()
            task = (await client.get("/api/v1/tasks/note")).json()
            assert whole is (overview["rates"] is not None)
            told = overview["workers"], recent["points"], recent["attention"], task["past"]
            assert [whole] * 4 == [bool(each) for each in told]
