"""The shop's site: an order and its jobs are stored together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from examples.shop.app import app, ask_how_it_was, send_receipt, sessions
from examples.shop.models import Order
from jobqueue import Unique


class NewOrder(BaseModel):
    """What a customer says."""

    customer: str
    cents: int


@asynccontextmanager
async def lifespan(site: FastAPI) -> AsyncIterator[None]:
    """Open the app with the site."""
    async with app, sessions(app) as made:
        site.state.sessions = made
        yield


async def session_of(request: Request) -> AsyncIterator[AsyncSession]:
    """The session of a request, in a transaction."""
    async with request.app.state.sessions.begin() as session:
        yield session


Session = Annotated[AsyncSession, Depends(session_of)]
site = FastAPI(lifespan=lifespan)


@site.post("/orders", status_code=201)
async def place_order(new: NewOrder, session: Session) -> dict[str, int]:
    """Store an order, and defer what follows from it: all or nothing."""
    order = Order(customer=new.customer, cents=new.cents)
    session.add(order)
    await session.flush()
    await send_receipt.options(connection=session).defer(order.id)
    once = Unique(new.customer, scope="period", period=365 * 86_400)
    await ask_how_it_was.options(connection=session, unique=once).defer(new.customer)
    if new.cents <= 0:
        raise HTTPException(422, "an order costs something")  # then there is no order, and no job
    return {"id": order.id}


@site.get("/orders/{id}")
async def show_order(id: int, session: Session) -> dict[str, str | int | None]:
    """An order, with its receipt once that is written."""
    order = await session.get(Order, id)
    if order is None:
        raise HTTPException(404, "no such order")
    return {"customer": order.customer, "cents": order.cents, "receipt": order.receipt}
