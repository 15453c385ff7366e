"""Compiled files: without them each test process, and each command it starts, compiles all of ours anew."""

import compileall
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("jobqueue", "examples", "tests/support")


def keep_compiled() -> None:
    """Write compiled files even if PYTHONDONTWRITEBYTECODE is set: git ignores them, `make clean` removes them."""
    sys.dont_write_bytecode = False


def compile_all() -> None:
    """Compile what has changed, before processes start that read it but would not write it."""
    for folder in FOLDERS:
        compileall.compile_dir(ROOT / folder, quiet=2)
