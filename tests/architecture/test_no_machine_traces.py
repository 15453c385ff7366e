"""Nothing in the repository depends on the machine where it was written."""

import re

from tests.architecture.sources import place, tracked_files

# Written so that this file does not contain what it looks for.
TRACES = re.compile(r"(?<![\w.$}])/(?:root|work|Users|home/[a-z]\w*)" + "/")


def test_no_file_names_a_folder_of_one_machine() -> None:
    """No tracked file has a path into somebody's home or workplace."""
    found = [
        place(path, number)
        for path in tracked_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if TRACES.search(line)
    ]

    assert [] == found
