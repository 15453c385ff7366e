"""Books: files to which processes append lines while a test reads them."""

from pathlib import Path


def whole_lines(book: Path) -> list[str]:
    """What was appended so far, but the line that is just being written: one that crosses a page comes in two parts."""
    return book.read_text().rpartition("\n")[0].splitlines() if book.exists() else []
