"""The shop's tables."""

from django.db import models


class Order(models.Model):
    """What somebody has ordered."""

    customer = models.TextField()
    cents = models.IntegerField()
    receipt = models.TextField(null=True)

    class Meta:
        app_label = "django_shop"
