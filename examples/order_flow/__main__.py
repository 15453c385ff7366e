"""Place an order, approve it, look at it, and receive the webhook that tells of its end."""

import argparse
import asyncio
import sys
from uuid import UUID

from examples.order_flow.app import DAY, TABLES, Approval, Order, app, connections, fulfil
from examples.order_flow.payments import TABLE
from examples.order_flow.receiver import Receiver
from jobqueue import Change


async def place(order: Order) -> int:
    """Store the job; a worker does the rest, today or tomorrow."""
    await app.migrate()
    async with app, connections(app) as pool:
        await pool.execute(TABLES)
        await pool.execute(TABLE)
        handle = await fulfil.defer(order)
    print(f"placed:  {handle.id}")
    print(f"approve: python -m examples.order_flow approve {handle.id}")
    return 0


async def approve(id: UUID, by: str) -> int:
    """Send the signal. It may come before the order waits for it, or while no worker runs."""
    async with app:
        change = await app.jobs.signal(id, "approved", Approval(by))
    print(change)
    return 0 if change is Change.DONE else 1


async def show(id: UUID) -> int:
    """Print the phases of an order."""
    async with app:
        job, phases = await app.jobs.get(id), await app.jobs.phases(id)
    print(f"{job.state}, {job.crashes} crashes")
    for phase in phases:
        print(f"{phase.place}  {phase.name:<10} {phase.state:<11} run {phase.attempt}  {phase.result or ''}".rstrip())
    return 0


async def introduce(receiver: Receiver) -> None:
    """Have it told how orders end, and let it know the secret. The same address again is the same webhook."""
    url = f"http://127.0.0.1:{receiver.server_port}/orders"
    await app.migrate()
    async with app:
        known = {hook.url: hook for hook in await app.webhooks.list()}
        hook = known.get(url) or await app.webhooks.create(url, {"job.completed", "job.cancelled", "job.dead"})
        receiver.secret = await app.webhooks.secret(hook.id)
    print(f"receives at {url}", flush=True)


def receive(port: int) -> int:
    """Serve until interrupted."""
    with Receiver(port) as receiver:
        asyncio.run(introduce(receiver))
        try:
            receiver.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def wishes() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m examples.order_flow", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("place", help="place an order")
    verb.add_argument("--pieces", type=int, default=1)
    verb.add_argument("--patience", type=float, default=2 * DAY, help="seconds to wait for approval (default: 2 days)")
    verb.add_argument("--cool-down", type=float, default=5, help="seconds between approval and parcel (default: 5)")
    verb = verbs.add_parser("approve", help="approve an order")
    verb.add_argument("id", type=UUID)
    verb.add_argument("--by", default="ada")
    verb = verbs.add_parser("show", help="show what an order has done so far")
    verb.add_argument("id", type=UUID)
    verb = verbs.add_parser("receive", help="receive the webhook")
    verb.add_argument("--port", type=int, default=8321, help="0 takes a free one (default: 8321)")
    return parser.parse_args()


def main() -> int:
    """Do what the command line says."""
    said = wishes()
    match said.verb:
        case "place":
            order = Order(pieces=said.pieces, patience=said.patience, cool_down=said.cool_down)
            return asyncio.run(place(order))
        case "approve":
            return asyncio.run(approve(said.id, said.by))
        case "show":
            return asyncio.run(show(said.id))
        case _:
            return receive(said.port)


if __name__ == "__main__":
    sys.exit(main())
