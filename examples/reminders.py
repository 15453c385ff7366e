"""Jobs at planned times, said in code and put by users: `python examples/reminders.py`."""

import asyncio

from jobqueue import App, JobContext

app = App(name="reminders")


@app.cron("0 7 * * *", tz="Europe/Vienna", missed="once")
async def digest() -> None:
    print("digest: what happened yesterday")


@app.task
async def remind(ctx: JobContext, user: int) -> None:
    print(f"remind: user {user}, planned for {ctx.job.planned_at:%H:%M:%S}")


async def main() -> None:
    async with app, app.worker(), app.events(types=["job.completed"], origin="schedule:remind-7") as events:
        await app.schedules.put("remind-7", remind.job(7), "* * * * * *")  # each second; people take "0 8 * * *"
        for _ in range(3):
            print("ended:", (await anext(events)).task)
        await app.schedules.delete("remind-7")
        for schedule in await app.schedules.list():
            print(f"{schedule.name}: {schedule.timing.cron} {schedule.timing.tz}, next {schedule.next_at}")


if __name__ == "__main__":
    asyncio.run(main())
