"""A book is read while others write in it, and die."""

from pathlib import Path

from tests.support.books import whole_lines


def test_a_line_that_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    """What has come of the last line may be any part of it; whole ones are all there."""
    book = tmp_path / "book"
    assert [] == whole_lines(book)
    book.write_text("\nbegan o")
    assert [] == whole_lines(book)
    book.write_text("\nbegan one;\n\nbega")
    assert ["began one"] == whole_lines(book)
    book.write_text("\nbegan one;\n\nbegan two;\n")
    assert ["began one", "began two"] == whole_lines(book)


def test_what_a_killed_writer_has_left_spoils_no_line(tmp_path: Path) -> None:
    """Its part of a line is none, wherever it was cut; the next line is whole."""
    book = tmp_path / "book"
    line = "\nbegan one;\n"
    for length in range(len(line) + 1):
        book.write_text(f"{line[:length]}\nbegan two;\n")
        assert whole_lines(book) in (["began two"], ["began one", "began two"])
