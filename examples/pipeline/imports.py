"""The work itself. Plain functions: they know nothing of queues and databases."""

import ast
import os
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

LIBRARY = Path(sysconfig.get_path("stdlib"))
FILES = 200


@dataclass(frozen=True)
class Module:
    """One file and what it imports."""

    name: str
    imports: list[str]


def python_files(folder: Path) -> list[Path]:
    """The first 200 Python files of a folder and those in it."""
    return sorted(folder.rglob("*.py"))[:FILES]


def is_slow(path: Path) -> bool:
    """Whether this is one of the third of all files that come only when they are asked for again."""
    return crc32(path.name.encode()) % 3 == 0


def download(path: Path, attempt: int) -> bytes:
    """A file's content. Stands for a network: raises ConnectionError the first time a slow one is asked for."""
    if attempt == 1 and is_slow(path):
        raise ConnectionError("no answer")
    return path.read_bytes()


def imported_by(source: bytes) -> list[str]:
    """The top-level modules that are imported anywhere in this. Raises SyntaxError."""
    return sorted({name.partition(".")[0] for node in ast.walk(ast.parse(source)) for name in _names(node)})


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module


def write(report: Path, ranking: Mapping[str, int]) -> None:
    """Put the report in its place, whole: who reads it meanwhile has the old one, or this."""
    draft = report.with_name(f"{report.name}.draft")
    draft.write_text("".join(f"{files:>5}  {name}\n" for name, files in ranking.items()))
    os.replace(draft, report)
