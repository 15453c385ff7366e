"""The shop's tests, as docs/testing.md says."""

import asyncio
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import Client, TestCase, TransactionTestCase

from examples.django_shop.models import Order
from examples.django_shop.queue import app, ask_how_it_was, send_receipt
from jobqueue import App
from jobqueue.testing import Kit


def order(cents: int = 1250) -> int:
    """The status of an order's answer."""
    answer = Client().post("/orders", {"customer": "ada", "cents": cents}, content_type="application/json")
    return int(answer.status_code)


def stored() -> int:
    """How many jobs this transaction sees."""
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from jobqueue.job")
        return int(cursor.fetchone()[0])


class WithoutQueue(TestCase):
    """Views alone: jobs are recorded, Django rolls its rows back."""

    def test_an_order_defers_its_receipt(self) -> None:
        """The view hands the order's number on."""
        with app.testing() as t:
            assert order() == 201
            t.assert_deferred(send_receipt, times=1, order=Order.objects.get().pk)
            t.assert_deferred(ask_how_it_was, customer="ada")

    def test_a_task_is_still_its_function(self) -> None:
        """So it sees the rows of the test, which no other thread does."""
        row = Order.objects.create(customer="ada", cents=1250)
        assert send_receipt(row.pk) == "ada, thank you for 12.50 EUR"

    def test_a_week_later(self) -> None:
        """The clock brings what was delayed."""
        with app.testing() as t:
            order()
            t.clock.advance(7 * 86_400)
            asked = [job.result for job in asyncio.run(t.drain()) if job.task == "ask_how_it_was"]
        assert asked == ["ada, how was it?"]


class InOneTransaction(TestCase):
    """Django's own transaction has the job too."""

    def test_jobs_roll_back_with_their_order(self) -> None:
        """An order that is refused leaves nothing."""
        assert (order(), stored()) == (201, 2)
        assert (order(cents=0), stored()) == (422, 2)


class Committed(TransactionTestCase):
    """What runs in a worker's threads has connections of its own, so the rows must be committed."""

    available_apps = ("examples.django_shop",)

    @pytest.fixture(autouse=True)
    def on_database(self, jobqueue_app: App) -> Iterator[None]:
        """The App on the database of the test run."""
        self.app = jobqueue_app
        yield

    def test_recorded_then_run(self) -> None:
        """Without a worker: the same code runs the job, in a thread as there."""
        with app.testing() as t:
            order()
            drained(t)
        assert Order.objects.get().receipt == "ada, thank you for 12.50 EUR"

    def test_with_a_worker(self) -> None:
        """The whole of it."""
        order()
        asyncio.run(self.app.run_until_idle())
        assert Order.objects.get().receipt == "ada, thank you for 12.50 EUR"


def drained(t: Kit) -> None:
    """Run what is due."""
    asyncio.run(t.drain())
