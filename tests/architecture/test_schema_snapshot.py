"""`schema/current.sql` is what the migrations make."""

import pytest

from tests.support.postgres.snapshot import CURRENT, newer_server, normalised, snapshot


def test_the_snapshot_equals_the_migrations(database: str) -> None:
    """The schema that stands in the repository is the one that migrating makes; otherwise: make schema-snapshot."""
    if too_new := newer_server(database):
        pytest.skip(f"the server's version {too_new} is newer than the embedded server's pg_dump, which cannot read it")

    assert CURRENT.read_text(encoding="utf-8") == snapshot(database)


@pytest.mark.parametrize(
    ("dumped", "expected"),
    [
        (
            "--\n-- Name: job; Type: TABLE; Schema: jobqueue; Owner: -\n--\n\nCREATE TABLE a ();\n",
            "CREATE TABLE a ();\n",
        ),
        ("\\restrict x1\n\n-- Dumped by pg_dump version 18.4\n\nSET row_security = off;\nselect 1;\n", "select 1;\n"),
        ("    id uuid CONSTRAINT job_id_not_null NOT NULL,\n", "id uuid NOT NULL,\n"),
        ("    set x = 1; -- Name: a comment\n", "set x = 1; -- Name: a comment\n"),
    ],
)
def test_only_noise_is_left_out(dumped: str, expected: str) -> None:
    """Versions, settings and names that the server makes up are left out; definitions and their comments are not."""
    assert expected == normalised(dumped).split("\n\n", 1)[1]
