"""Text made fit to be shown."""

import pytest

from jobqueue.cli.terminal.safe_text import escaped, masked, shown_dsn


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://me:geheim@host:5432/shop", "postgresql://me:***@host:5432/shop"),
        ("postgres://me:ge%40heim@[::1]:5432/shop", "postgres://me:***@[::1]:5432/shop"),
        ("postgresql://me@host/shop", "postgresql://me@host/shop"),
        ("postgresql://host/shop?password=geheim&sslmode=require", "postgresql://host/shop"),
        ("postgresql://me:geheim@/shop?host=/var/run&passwort=geheim", "postgresql://me:***@/shop?host=/var/run"),
        ("postgresql://me:geheim@one:5432,two:5433/shop", "postgresql://me:***@one:5432,two:5433/shop"),
        ("postgresql://me:ge/heim@host/shop", "the given connection string"),
        ("postgresql://me:ge?heim@host/shop", "the given connection string"),
        ("postgresql://me:ge#heim@host/shop", "the given connection string"),
        ("postgresql://me:geheim", "the given connection string"),
        ("me:geheim@host/shop", "the given connection string"),
        ("host=h password=geheim", "the given connection string"),
    ],
)
def test_a_dsn_is_shown_without_its_secrets(dsn: str, shown: str) -> None:
    """User, hosts, port and database are shown; a string that was not quoted well, not at all."""
    assert shown == shown_dsn(dsn)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at postgresql://me:geheim@host/shop now", "at postgresql://me:***@host/shop now"),
        ("redis://:geheim@host", "redis://:***@host"),
        ('connect("postgresql://me:ge@heim@h/x", 5)', 'connect("postgresql://me:***@h/x", 5)'),
        ("connect(password='ge heim', port=5)", "connect(password=***, port=5)"),
        ("?user=me&password=geheim&port=5", "?user=me&password=***&port=5"),
        ("http://host:80/a@b is no secret of ours", "http://host:***@b is no secret of ours"),
        ("nothing here: at all", "nothing here: at all"),
    ],
)
def test_what_looks_like_a_password_is_masked(text: str, shown: str) -> None:
    """In any text; rather too much than too little."""
    assert shown == masked(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode ✓", "plain ünïcode ✓"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31m\x00", r"\x1b[31m\x00"),
        ("\u2028\u202e\x9b", r"\u2028\u202e\x9b"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_cannot_be_seen_is_escaped(text: str, shown: str) -> None:
    """Line breaks, control characters, reversed writing and half surrogates become escapes."""
    assert shown == escaped(text)
