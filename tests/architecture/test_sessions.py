"""Connections are shared, by our pool and by poolers beyond it: what is set for a whole session is set in one place."""

import ast
import re

from jobqueue.store.schema.statements import statements
from tests.architecture.sources import nodes, package_files, place

VERBS = ("with", "select", "insert", "update", "delete")
SESSION_WIDE = re.compile(
    r"^\s*(set\s+(?!local\b)(\w+\s*(=|to\b)|$)|reset\s|prepare\s|select\s+set_config\([^)]*false)", re.I
)


def test_statements_read_and_write_rows_and_nothing_else() -> None:
    """No statement of schema/statements sets, locks or listens for a session. (S3-30)"""
    found = statements()
    assert len(found) >= 10, "no statements: wrong place?"

    assert {} == {name: one.sql[:40] for name, one in found.items() if not one.sql.lower().startswith(VERBS)}


def test_one_place_sets_what_holds_for_a_session() -> None:
    """No other SQL text changes a setting for longer than its transaction. (S3-30)"""
    texts = [
        (place(path), node.value)
        for path in package_files()
        for node in nodes(path, ast.Constant)
        if isinstance(node.value, str)
    ]
    assert any(re.match(r"set local ", text) for _, text in texts), "no SQL: wrong place?"

    assert {"jobqueue/store/dialing/silence.py"} == {where for where, text in texts if SESSION_WIDE.match(text)}
