"""Books: files to which processes append lines while a test reads them.

A line that crosses a page comes in two parts, and a writer that is killed in between leaves the first for good. So each
begins with a line break of its own and ends with `;`: what has none is no line, and spoils none.
"""

from pathlib import Path


def whole_lines(book: Path) -> list[str]:
    """What was appended so far as `\\n<line>;\\n`, but what is just being written or was never written to its end."""
    lines = book.read_text().splitlines() if book.exists() else []
    return [line[:-1] for line in lines if line.endswith(";")]
