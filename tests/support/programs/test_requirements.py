"""The list of requirements that tests name."""

from pathlib import Path

from tests.support.programs.requirements import named_by_tests, numbers, rows


def test_ranges_are_written_out() -> None:
    """A docstring may name one requirement or a range."""
    assert {
        "S1-22",
        "S3-27",
        "S3-28",
        "S3-29",
        "S4-114",
        "S4-115",
        "S4-116",
    } == numbers("Nothing is lost. (S1-22, S3-27..29, S4-114 to S4-116)")


def test_only_docstrings_of_tests_count(tmp_path: Path) -> None:
    """Docstrings of modules, classes and functions in test files count; other texts do not."""
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_one.py").write_text('"""All. (S0-01)"""\ndef test_it():\n    """It. (S0-02)"""\n    x = "S0-03"\n')
    (folder / "support.py").write_text('"""Not a test. (S0-04)"""\n')

    assert {"S0-01": ["tests/test_one.py"], "S0-02": ["tests/test_one.py::test_it"]} == named_by_tests(folder)


def test_the_list_may_be_absent(tmp_path: Path) -> None:
    """Without the list at hand there are no rows; with it, each row has its number and text."""
    path = tmp_path / "requirements.md"
    assert {} == rows(path)

    path.write_text("| Row | What |\n|---|---|\n| S0-01 | F | Typed |\n")

    assert {"S0-01": "F | Typed"} == rows(path)
