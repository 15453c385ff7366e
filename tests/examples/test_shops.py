"""The shops' own tests, run as their authors would."""

import pytest

from tests.examples.kit import pytest_in
from tests.examples.programs import ROOT


@pytest.mark.parametrize(("name", "count"), [("shop", 7), ("django_shop", 6)])
async def test_its_own_tests_pass(name: str, count: int, database: str) -> None:
    """S4-113: an application can be tested with the kit, on one connection, with a worker, and without a database."""
    answer = await pytest_in(ROOT, "-c", f"examples/{name}/pytest.ini", f"examples/{name}", dsn=database)
    assert (0, count) == (answer.code, answer.passed), answer.out
