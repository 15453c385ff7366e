"""The jobs that the page shows: some take a while, some fail at first, a few fail for good."""

import asyncio

from jobqueue import App, Fatal, JobContext

app = App(name="bakery", schema="bakery")  # away from other apps' jobs


@app.task(follow=True, max_attempts=2, retry=lambda job, error: 1.0)
async def bake(ctx: JobContext, number: int) -> str:
    """Bake one loaf. `follow=True`: its start and its progress are told as well, not only how it ends."""
    await asyncio.sleep(0.2 + number % 3 * 0.4)
    if number % 5 == 3 and ctx.attempt == 1:
        raise OSError("the oven went out")
    if number % 10 == 9:
        raise Fatal("burnt")
    return f"loaf {number}"
