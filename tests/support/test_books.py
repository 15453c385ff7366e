"""A book is read while others write in it."""

from pathlib import Path

from tests.support.books import whole_lines


def test_a_line_that_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    """What has come of the last line may be any part of it; whole ones are all there."""
    book = tmp_path / "book"
    assert [] == whole_lines(book)
    book.write_text("began o")
    assert [] == whole_lines(book)
    book.write_text("began one\nbega")
    assert ["began one"] == whole_lines(book)
    book.write_text("began one\nbegan two\n")
    assert ["began one", "began two"] == whole_lines(book)
