"""The shop's site: an order and its jobs are stored together."""

import json

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from examples.django_shop.models import Order
from examples.django_shop.queue import ask_how_it_was, send_receipt


@require_POST
@transaction.atomic
def place_order(request: HttpRequest) -> HttpResponse:
    """Store an order, and defer what follows from it: all or nothing."""
    new = json.loads(request.body)
    order = Order.objects.create(customer=new["customer"], cents=new["cents"])
    send_receipt.options(connection=connection).defer_sync(order.pk)  # joins the transaction of this view
    ask_how_it_was.options(connection=connection, delay=7 * 86_400).defer_sync(order.customer)
    if order.cents <= 0:
        transaction.set_rollback(True)  # then there is no order, and no job
        return JsonResponse({"error": "an order costs something"}, status=422)
    return JsonResponse({"id": order.pk}, status=201)


urlpatterns = [path("orders", place_order)]
