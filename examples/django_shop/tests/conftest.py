"""Django on the database of the test run."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

import examples.django_shop.queue  # noqa: F401 - sets Django up before tests import models
from examples.django_shop.settings import database_of


@pytest.fixture(scope="session", autouse=True)
def django_database(jobqueue_database: str) -> Any:
    """The shop's tables beside those of its jobs."""
    connections["default"].settings_dict.update(database_of(jobqueue_database))
    call_command("migrate", run_syncdb=True, verbosity=0)
    yield
    connections.close_all()
