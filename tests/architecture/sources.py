"""The files that the architecture tests look at, and how they read them."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "jobqueue"
TESTS = ROOT / "tests"

N = TypeVar("N", bound=ast.AST)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(folder: Path, at_least: int) -> list[Path]:
    """Return all Python files below a folder; fewer than expected means that we look in the wrong place."""
    found = sorted(folder.rglob("*.py"))
    assert len(found) >= at_least, f"only {len(found)} Python files in {folder}: wrong place?"
    return found


def package_files() -> list[Path]:
    return python_files(PACKAGE, at_least=20)


def suite_files() -> list[Path]:
    return python_files(TESTS, at_least=15)


def tracked_files() -> list[Path]:
    """Return what git knows or would add; without git, all files outside of environments and caches."""
    answer = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode == 0:
        found = [ROOT / name for name in answer.stdout.split("\0") if name]
    else:
        found = [path for path in ROOT.rglob("*") if not path.relative_to(ROOT).as_posix().startswith(".")]
    found = [path for path in found if path.is_file()]
    assert len(found) >= 40, f"only {len(found)} files in {ROOT}: wrong place?"
    return found


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def _by_kind(path: Path) -> dict[type[ast.AST], list[ast.AST]]:
    found: dict[type[ast.AST], list[ast.AST]] = {}
    for node in ast.walk(tree(path)):
        found.setdefault(type(node), []).append(node)
    return found


def nodes(path: Path, *kinds: type[N]) -> list[N]:
    """Return all nodes of these kinds in a file, which is walked through once for all tests."""
    return cast("list[N]", [node for kind in kinds for node in _by_kind(path).get(kind, [])])


def functions(path: Path) -> list[Function]:
    return nodes(path, ast.FunctionDef, ast.AsyncFunctionDef)


def place(path: Path, line: int | None = None) -> str:
    """Name a place the way editors and terminals can jump to."""
    name = path.relative_to(ROOT).as_posix()
    return name if line is None else f"{name}:{line}"


def matches(path: Path, pattern: str) -> Iterator[tuple[int, re.Match[str]]]:
    """Yield line number and match of a pattern, line by line."""
    for number, line in enumerate(lines(path), start=1):
        found = re.search(pattern, line)
        if found:
            yield number, found
