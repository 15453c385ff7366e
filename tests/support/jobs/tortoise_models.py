"""Tortoise wants a model."""

from tortoise import fields, models


class Invoice(models.Model):
    number = fields.IntField(primary_key=True)

    class Meta:
        table = "invoice"
