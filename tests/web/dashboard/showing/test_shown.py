"""JSON as markup: exact, escaped, bounded, whatever it is."""

import html
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobqueue.web.dashboard.showing.shown import DEPTH, as_json, parsed, shown

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def text_of(markup: str) -> str:
    """What a browser shows of it."""
    return html.unescape(re.sub(r"</?span[^<>]*>", "", markup))


@given(VALUES)
def test_what_is_shown_is_what_is_stored(value: Any) -> None:
    """Read back it is the same, and nothing in it is markup of its own."""
    drawn = shown(json.dumps(value))
    assert drawn.whole
    assert value == json.loads(text_of(drawn.html))
    assert not re.search(r"<(?!/?span)", drawn.html)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")), st.none() | st.integers(0, 50))
def test_any_text_is_shown_in_its_room(text: str, room: int | None) -> None:
    """What is no JSON stands as it is; never more than there is room for."""
    drawn = shown(text, room)
    assert not re.search(r"<(?!/?span)", drawn.html)
    assert room is None or len(text_of(drawn.html)) <= room


@pytest.mark.parametrize(
    "number",
    ["123456789012345678901234567890", "1e400", "-0.10", "1E+2", "9" * 5_000, "0.1000000000000000055511151231"],
)
def test_numbers_keep_their_digits(number: str) -> None:
    """Those too that no float and no integer of 64 bits can hold."""
    assert f"[\n  {number}\n]" == text_of(shown(f"[{number}]").html)


def test_keys_that_stand_there_twice_are_shown_twice() -> None:
    """`json` keeps what was sent, and so does the page."""
    assert '{\n  "a": 1,\n  "a": 2\n}' == text_of(shown('{"a": 1, "a": 2}').html)


def test_characters_that_cannot_be_seen_are_escaped() -> None:
    """Half a pair, NUL, one that turns the direction of writing, and one beyond 16 bits: all pages can hold them."""
    text = r'"a\u0000\ud800\u202e\ud83d\ude00\udb40\udc01"'
    seen = text_of(shown(text).html)
    assert '"a\\u0000\\ud800\\u202e😀\\udb40\\udc01"' == seen
    seen.encode()


def test_a_large_one_is_cut_and_shown_whole_on_demand() -> None:
    """64 KiB at first; all of it without colours, for a browser would choke on a million spans."""
    text = json.dumps(["<b>" * 100] * 4_000)
    first, whole = shown(text), shown(text, None)
    assert not first.whole
    assert 64 << 10 == len(text_of(first.html))
    assert whole.whole
    assert json.loads(text) == json.loads(html.unescape(whole.html))
    assert "<" not in whole.html


def test_what_is_too_deep_is_said_to_be() -> None:
    """Nobody reads a hundred levels; a thousand and more end nothing."""
    for depth in (DEPTH + 1, 5_000, 200_000):
        text = "[" * depth + "]" * depth
        assert shown(text).html
    assert f"deeper than {DEPTH} levels" in shown("[" * 200 + "]" * 200).html


@given(VALUES)
def test_parsed_is_written_again(value: Any) -> None:
    """As it was."""
    assert value == json.loads(as_json(parsed(json.dumps(value))))
