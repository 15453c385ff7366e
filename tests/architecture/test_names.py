"""Names and habits that a reader may rely on in every file."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.sources import matches, nodes, package_files, place, suite_files

MAGNETS = {"utils", "util", "manager", "managers", "common", "core", "types", "helpers", "helper", "misc"}
NOQA = r"#\s*noqa\b(?P<codes>:\s*[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*)?(?P<reason>.*)"


def test_no_file_has_a_magnet_name() -> None:
    """No file or folder is called utils or the like: such names attract everything."""
    parts = {part for path in package_files() + suite_files() for part in path.with_suffix("").parts[-3:]}

    assert set() == parts & MAGNETS


def test_no_file_name_begins_with_an_underscore() -> None:
    """What is public is decided by the package root, not by underscores in file names."""
    hidden = [place(path) for path in package_files() if re.match(r"_(?!_(init|main)__\.py)", path.name)]

    assert [] == hidden


def test_types_are_never_silenced_in_the_package() -> None:
    """The package has no `type: ignore`: who uses it gets types that are checked all the way down."""
    silenced = [
        place(path, line)
        for path in package_files()
        for line, _ in matches(path, r"#\s*(type:\s*ignore|pyright:|mypy:)")
    ]

    assert [] == silenced


def test_a_silenced_lint_has_a_reason() -> None:
    """A `noqa` names the rule and says why, in words, on the same line."""
    bare = [
        place(path, line)
        for path in package_files() + suite_files()
        for line, found in matches(path, NOQA)
        if path != Path(__file__) and not gives_reason(found)
    ]

    assert [] == bare


def gives_reason(found: re.Match[str]) -> bool:
    return found["codes"] is not None and re.search(r"[a-z]{3,}", found["reason"]) is not None


@pytest.mark.parametrize(
    ("comment", "good"),
    [
        ("# noqa", False),
        ("# noqa: S608", False),
        ("# noqa: S608, E501", False),
        ("# noqa: S608 - the name is quoted", True),
        ("# noqa: S608  the name is quoted", True),
    ],
)
def test_what_counts_as_a_reason(comment: str, good: bool) -> None:
    """Only words after the codes are a reason."""
    found = re.search(NOQA, comment)

    assert found is not None
    assert gives_reason(found) is good


def test_nobody_inside_imports_from_the_package_root() -> None:
    """Only users import from `jobqueue`: inside, such an import depends on the order of imports."""
    importers = [
        place(path, node.lineno)
        for path in package_files()
        for node in nodes(path, ast.ImportFrom, ast.Import)
        if (isinstance(node, ast.ImportFrom) and node.module == "jobqueue")
        or (isinstance(node, ast.Import) and any(name.name == "jobqueue" for name in node.names))
    ]

    assert [] == importers
