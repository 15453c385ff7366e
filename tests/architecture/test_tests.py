"""The tests themselves: they say what they prove, do prove something, wait without sleeping and fake no database."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from tests.architecture.sources import Function, functions, nodes, place, suite_files

CHECKING_CALLS = {"raises", "warns", "fail", "wait_until", "assert_type", "assert_never"}


def each_test() -> Iterator[tuple[Path, Function]]:
    """Yield all test functions of the suite with their file."""
    for path in suite_files():
        if path.name.startswith("test_"):
            yield from ((path, function) for function in functions(path) if function.name.startswith("test_"))


def calls(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call among the nodes with the last part of its name."""
    for call in nodes:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute | ast.Name):
            yield (call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id), call


def test_every_test_says_what_behaviour_it_proves() -> None:
    """Each test function has a docstring."""
    silent = [place(path, function.lineno) for path, function in each_test() if not ast.get_docstring(function)]

    assert [] == silent


def test_every_test_proves_something() -> None:
    """Each test asserts, expects an error, or calls a helper of the suite that does. (S3-31)"""
    vacuous = [place(path, test.lineno) for path, test in each_test() if not checks_something(test)]

    assert [] == vacuous


def test_nothing_is_asserted_that_is_always_true() -> None:
    """No test asserts a constant or a non-empty tuple. (S3-31)"""
    idle = [
        place(path, node.lineno)
        for path in suite_files()
        for node in nodes(path, ast.Assert)
        if isinstance(node.test, ast.Constant | ast.Tuple)
    ]

    assert [] == idle


def checks_something(function: Function) -> bool:
    if any(isinstance(node, ast.Assert) for node in ast.walk(function)):
        return True
    called = {name for name, _ in calls(ast.walk(function))}
    return bool(called & (CHECKING_CALLS | checking_helpers()))


@cache
def checking_helpers() -> frozenset[str]:
    """Return the names of the suite's own functions that assert or expect an error."""
    return frozenset(
        function.name
        for path in suite_files()
        for function in functions(path)
        if any(isinstance(node, ast.Assert) for node in ast.walk(function))
        or {name for name, _ in calls(ast.walk(function))} & CHECKING_CALLS
    )


def test_only_the_waiting_sleeps() -> None:
    """Tests wait on signals or with wait_until: a sleep is either too long or not long enough."""
    sleepers = [
        place(path, call.lineno)
        for path in suite_files()
        if "support" not in path.parts
        for name, call in calls(nodes(path, ast.Call))
        if name == "sleep" and not gives_way(call)
    ]

    assert [] == sleepers


def gives_way(call: ast.Call) -> bool:
    """`sleep(0)` gives way to other tasks, it does not wait; one with a name, or without a time, is a job's."""
    first = call.args[0] if call.args else ast.Constant(0)
    named = isinstance(first, ast.JoinedStr) or (isinstance(first, ast.Constant) and isinstance(first.value, str))
    return named or (len(call.args) < 2 and isinstance(first, ast.Constant) and first.value == 0)


def test_no_test_fakes_what_it_talks_to() -> None:
    """No test uses a mock: SQL is tested on a real PostgreSQL, pure rules on values. (S1-22)"""
    mocking = [place(path, node.lineno) for path in suite_files() for node in imports(path) if names_mock(node)]

    assert [] == mocking


def imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    return nodes(path, ast.Import, ast.ImportFrom)


def names_mock(node: ast.Import | ast.ImportFrom) -> bool:
    module = node.module if isinstance(node, ast.ImportFrom) and node.module else ""
    return module.startswith("unittest") or any(name.name.startswith("unittest") for name in node.names)
