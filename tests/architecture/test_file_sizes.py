"""Files and functions stay small enough to be read at one sitting. No exceptions: who needs more, divides."""

import ast
from collections import Counter

from tests.architecture.sources import PACKAGE, ROOT, Function, functions, lines, package_files, place

FILE_LIMIT = 400
FUNCTION_LIMIT = 50
ROOM_SIGN_LIMIT = 25
ROOM_LIMIT = 14


def test_no_file_is_longer_than_400_lines() -> None:
    """Modules of the package and files of statements have at most 400 lines."""
    statements = sorted((ROOT / "schema" / "statements").glob("*.sql"))
    assert len(statements) >= 2, "no statements: wrong place?"

    sizes = {place(path): len(lines(path)) for path in [*package_files(), *statements]}

    assert {} == {name: size for name, size in sizes.items() if size > FILE_LIMIT}


def test_no_function_is_longer_than_50_lines() -> None:
    """A function of the package has at most 50 lines, its docstring not counted."""
    sizes = {
        f"{place(path, function.lineno)} {function.name}": length(function)
        for path in package_files()
        for function in functions(path)
    }

    assert len(sizes) >= 100, f"only {len(sizes)} functions: wrong place?"
    assert {} == {name: size for name, size in sizes.items() if size > FUNCTION_LIMIT}


def test_no_room_has_more_than_14_files() -> None:
    """A room of the package has at most a dozen files or so beside its sign; who needs more, makes rooms within it."""
    sizes = Counter(place(path.parent) for path in package_files() if path.name != "__init__.py")
    assert len(sizes) >= 15, f"only {len(sizes)} rooms: wrong place?"

    assert {} == {room: size for room, size in sizes.items() if size > ROOM_LIMIT}


DOORS = {"web": "jobqueue.web.events(app, ...)", "testing": "jobqueue.testing.Kit"}


def test_a_room_has_a_sign_and_nothing_else() -> None:
    """Each room's __init__.py is a docstring of at most 25 lines: re-exports are where circles hide.

    Only a room that users name themselves has a door: it loads what they name at the first use.
    """
    signs = [path for path in package_files() if path.name == "__init__.py" and path.parent != PACKAGE]
    assert len(signs) >= 15, f"only {len(signs)} rooms: wrong place?"

    for sign in signs:
        module = ast.parse(sign.read_text())
        docstring = ast.get_docstring(module)
        assert docstring, f"{place(sign)} does not say what happens in this room"
        assert 1 == len(module.body) or sign.parent.name in DOORS, f"{place(sign)} has code"
        assert len(docstring.splitlines()) <= ROOM_SIGN_LIMIT, f"{place(sign)} is too long for a sign"


def length(function: Function) -> int:
    assert function.end_lineno is not None
    size = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and first.end_lineno is not None:
        size -= first.end_lineno - first.lineno + 1
    return size
