"""`make requirements`: which requirements the tests name in their docstrings, and which none of them does."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LIST = ROOT.parent / "shared" / "requirements.md"

# S1-24, and S1-24..26 or S1-24 to S1-26 for a range.
NUMBER = re.compile(r"\b(S\d)-(\d+)(?:(?:\.\.| to )(?:\1-)?(\d+))?")
ROW = re.compile(r"^\|\s*(S\d-\d+)\s*\|\s*(.*?)\s*\|\s*$")


def numbers(text: str) -> set[str]:
    """Return the requirements that a text names, ranges written out."""
    found: set[str] = set()
    for stage, first, last in NUMBER.findall(text):
        found |= {f"{stage}-{number:0{len(first)}}" for number in range(int(first), int(last or first) + 1)}
    return found


def named_by_tests(folder: Path) -> dict[str, list[str]]:
    """Return for each requirement the tests (modules, classes, functions) whose docstring names it."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(folder.rglob("test_*.py")):
        place = path.relative_to(folder.parent).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = place if isinstance(node, ast.Module) else f"{place}::{node.name}"
                for number in numbers(ast.get_docstring(node) or ""):
                    found[number].append(name)
    return dict(found)


def rows(path: Path) -> dict[str, str]:
    """Return the text of each requirement by its number; nothing where the list is not at hand."""
    if not path.exists():
        return {}
    found = (ROW.match(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row[1]: row[2] for row in found if row}


def main() -> None:
    named = named_by_tests(ROOT / "tests")
    listed = rows(LIST)
    for number in sorted(named):
        note = "" if not listed or number in listed else "  (not in the list)"
        print(f"{number}{note}  {', '.join(named[number])}")
    missing = [number for number in listed if number not in named]
    if listed:
        print(f"\nNamed by tests: {len(listed) - len(missing)} of {len(listed)}. Not named:")
        for number in missing:
            print(f"{number}  {listed[number][:140]}")
    else:
        print(f"\nNamed by tests: {len(named)}.")


if __name__ == "__main__":
    main()
