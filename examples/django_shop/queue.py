"""The shop's jobs. A worker imports this file alone, so it sets Django up."""

import os

import django
from django.apps import apps
from django.db import connection

from jobqueue import App

if not apps.ready:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django_shop.settings")
    django.setup()

from examples.django_shop.models import Order

app = App(name="django_shop")


@app.task(queue="mail", max_attempts=5)
def send_receipt(order: int) -> str:
    """Write an order's receipt, in a thread of the worker. Doing it twice does no harm."""
    try:
        row = Order.objects.get(pk=order)
        row.receipt = f"{row.customer}, thank you for {row.cents / 100:.2f} EUR"
        row.save()
        return str(row.receipt)
    finally:
        if not connection.in_atomic_block:
            connection.close()  # the thread ends with the job


@app.task
async def ask_how_it_was(customer: str) -> str:
    """A week after the order."""
    return f"{customer}, how was it?"
