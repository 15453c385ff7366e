"""What a task sees when its run is to end before it is done: `python examples/cancellation.py`."""

import asyncio
import time

from jobqueue import App, JobContext, JobFailed

app = App()


@app.task(queue="cancellation", timeout=0.5, max_attempts=1)
async def download(url: str) -> None:
    try:
        await asyncio.sleep(60)  # stands for the network; CancelledError is raised here
    finally:
        print("download: closing the connection")  # and goes on from here: never swallow it


@app.task(queue="cancellation", timeout=0.5, max_attempts=1)
def compress(ctx: JobContext, path: str) -> None:
    try:
        for _ in range(1200):
            ctx.raise_if_cancelled()  # a thread cannot be interrupted, so it asks now and then
            time.sleep(0.05)  # stands for a piece of the work
    finally:
        print("compress: removing the half-written file")


async def main() -> None:
    handles = [await download.defer("https://example.org"), await compress.defer("a.tar")]
    async with app.worker(["cancellation"]):
        for handle in handles:
            try:
                await handle.result()
            except JobFailed as error:
                print(f"{handle.task}: {error.error_class}: {error.message}")


if __name__ == "__main__":
    asyncio.run(main())
