"""`make speed`: runs the whole bench and writes its tables into docs/speed.md; the words around them are by hand."""

import re
import subprocess
import sys
from pathlib import Path

SPEED = Path(__file__).resolve().parents[3] / "docs" / "speed.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def spliced(page: str, measured: str) -> str:
    """The page with what was measured between its marks. Raises ValueError if they are not there, once each."""
    parts = re.split(f"({BEGIN}|{END})", page)
    if parts[1::2] != [BEGIN, END]:
        raise ValueError(f"{BEGIN} and {END} must stand there once, in this order")
    head, begin, _, end, tail = parts
    return f"{head}{begin}\n\n{measured.strip()}\n\n{end}{tail}"


def main() -> int:
    measured = subprocess.run(
        [sys.executable, "-m", "jobqueue", "bench", "--markdown", *sys.argv[1:]],
        check=False, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if measured.returncode == 0:
        SPEED.write_text(spliced(SPEED.read_text(encoding="utf-8"), measured.stdout), encoding="utf-8")
    return measured.returncode


if __name__ == "__main__":
    sys.exit(main())
