"""Django's settings: the shop's rows are in the database of its jobs."""

import os
from typing import Any

from psycopg.conninfo import conninfo_to_dict


def database_of(dsn: str) -> dict[str, Any]:
    """A connection string as Django wants it."""
    place: dict[str, Any] = dict(conninfo_to_dict(dsn))
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    return {"ENGINE": "django.db.backends.postgresql", **{name: place.get(each, "") for name, each in names.items()}}


SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "for-tests-only")
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "examples.django_shop.views"
INSTALLED_APPS = ["examples.django_shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": database_of(os.environ.get("JOBQUEUE_DSN", "postgresql://localhost/shop"))}
USE_TZ = True
