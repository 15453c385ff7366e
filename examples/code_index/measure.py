"""What the index keeps of one Python file. Plain functions: they know nothing of queues and databases."""

import ast
import hashlib
import sysconfig
from dataclasses import dataclass
from pathlib import Path

LIBRARY = Path(sysconfig.get_path("stdlib"))
NOT_OURS = {"site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Measures:
    """One row of the index."""

    sha256: str
    bytes: int
    lines: int
    functions: int
    classes: int


class EmptyFile(Exception):
    """Raised for a file without a single character that is not a blank."""


def library_files() -> list[str]:
    """Every Python file of the running interpreter's standard library, by its path inside the library."""
    paths = (path.relative_to(LIBRARY) for path in LIBRARY.rglob("*.py"))
    return sorted(path.as_posix() for path in paths if not NOT_OURS.intersection(path.parts))


def measure(path: str) -> Measures:
    """Hash, count and parse one file. Raises EmptyFile, or what the parser says of a file that is no Python."""
    source = (LIBRARY / path).read_bytes()
    if not source.strip():
        raise EmptyFile("there is nothing to index")
    nodes = list(ast.walk(ast.parse(source)))  # bytes: the parser reads the file's encoding from its first lines
    return Measures(
        sha256=hashlib.sha256(source).hexdigest(),
        bytes=len(source),
        lines=len(source.splitlines()),
        functions=sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
    )
