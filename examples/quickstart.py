import asyncio

from jobqueue import App

app = App(name="quickstart")  # brings its own PostgreSQL; yours is App("postgresql://...") or JOBQUEUE_DSN


@app.task(queue="mail", timeout=30, max_attempts=5)
async def send_mail(to: str, *, subject: str) -> str:
    return f"{subject!r} is on its way to {to}"


async def main() -> None:
    handle = await send_mail.defer("ada@example.org", subject="Welcome")
    print("deferred:", handle.id)
    print("result:", await handle.result(timeout=30))


if __name__ == "__main__":
    asyncio.run(main())
