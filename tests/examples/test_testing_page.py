"""docs/testing.md: its Python blocks are one file of tests, which pass; its configuration is that of pytest."""

import re
from pathlib import Path

from tests.examples.kit import pytest_in
from tests.examples.programs import ROOT

PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks of the page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def test_the_page_runs(database: str, tmp_path: Path) -> None:
    """Whoever copies the page has tests that pass."""
    tests = "\n\n".join(blocks("python"))
    (tmp_path / "shop.py").write_text(tests)
    (ini,) = blocks("ini")
    (tmp_path / "pytest.ini").write_text(ini)
    answer = await pytest_in(tmp_path, "shop.py", dsn=database)
    assert (0, tests.count("def test_")) == (answer.code, answer.passed), answer.out
