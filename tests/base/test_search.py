"""What somebody types into a search box: read into filters, or refused with the word that is meant."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobqueue.base.errors import InvalidOption
from jobqueue.base.job import JobState
from jobqueue.base.looking.search import Inside, Search, path_of, read_search

BUNDLE = UUID("01a20466-0396-7560-92ef-adfe1f5cacd8")


@pytest.mark.parametrize(
    ("typed", "filters"),
    [
        ("", {}),
        ("  ", {}),
        (
            "args.to:ada@example.com state:dead queue:mail billing",
            {"args": {"to": "ada@example.com"}, "state": [JobState.DEAD], "queue": "mail", "text": "billing"},
        ),
        ("state:dead,Cancelled state:ready", {"state": [JobState.DEAD, JobState.CANCELLED, JobState.READY]}),
        ("error:shop.CardDeclined task:charge", {"error": "shop.CardDeclined", "task": "charge"}),
        (f"bundle:{BUNDLE} origin:web reason:expired", {"bundle": BUNDLE, "origin": "web", "reason": "expired"}),
        ('key:"customer 7"', {"key": "customer 7"}),
        ("args.items.0.sku:a:b args.by:null", {"args": {"items.0.sku": "a:b", "by": "null"}}),
        ('args."a.b".c:5', {"args": {'"a.b".c': "5"}}),
        ("args.x:", {"args": {"x": ""}}),
        ("card state:dead declined", {"text": "card declined", "state": [JobState.DEAD]}),
        ('"state:dead"', {"text": "state:dead"}),
        (r'"say \"hi\" \\"', {"text": r'say "hi" \\'[:-1]}),
        ("https://example.com/?a:b", {"text": "https://example.com/?a:b"}),
        ('"01a20466"', {"text": "01a20466"}),
        ("01a20466 mail", {"text": "01a20466 mail"}),
        ("deadbeef", {"text": "deadbeef"}),
        ("fingerprint:0123456789abcdef", {"fingerprint": "0123456789abcdef"}),
    ],
)
def test_what_is_typed_becomes_filters(typed: str, filters: dict[str, Any]) -> None:
    """Names with a colon are filters, the rest is one text, quotes make a text of anything."""
    assert Search(filters=filters) == read_search(typed)


@pytest.mark.parametrize("typed", [str(BUNDLE), " 01A20466 ", "1f5cacd8"])
def test_an_id_or_a_part_of_one_stands_alone(typed: str) -> None:
    """Eight hex digits or more, and nothing else, are the beginning or the end of an id."""
    assert Search(id=typed.strip().lower()) == read_search(typed)


@pytest.mark.parametrize(
    ("typed", "word", "why"),
    [
        ("billing state:ded", "state:ded", "must be one of scheduled"),
        ("queue:", "queue:", "1 to 100 characters"),
        ("queue:a queue:b", "queue:b", "twice"),
        ("args.a:1 args.a:2", "args.a:2", "twice"),
        ("args.:x", "args.:x", "is no path"),
        ("args.a..b:x", "args.a..b:x", "is no path"),
        ('mail quo"te', 'quo"te', "quote has no end"),
        ('"', '"', "quote has no end"),
        ("bundle:12", "bundle:12", "id of a bundle"),
        ("fingerprint:xyz", "fingerprint:xyz", "16 of 0 to 9"),
        ("error:", "error:", "must not be empty"),
        ("x" * 201, "x" * 60, "at most 200 characters"),
        ("a\0b", "a\ufffdb", "NUL"),
        ("\ud800", "\ufffd", "surrogates"),
    ],
)
def test_what_cannot_be_understood_is_named(typed: str, word: str, why: str) -> None:
    """The error has the word that it is about, and says what to do."""
    with pytest.raises(InvalidOption) as told:
        read_search(typed)
    assert str(told.value).startswith(f"search: {word} cannot be understood: ")
    assert why in str(told.value)


@given(st.text(st.characters(codec=None), max_size=80))
@example('args.a"b":c "')
def test_whatever_is_typed_is_read_or_refused(typed: str) -> None:
    """No text makes it fail in another way, and what it makes of one can be asked of the store."""
    try:
        found = read_search(typed)
    except InvalidOption:
        return
    names = ("error", "fingerprint", "args", "text", "key", "reason")
    assert (found.id is not None) <= (found.filters == {})
    Inside(**{name: found.filters[name] for name in names if name in found.filters}).document()


PARTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1)


@given(PARTS)
def test_any_path_can_be_said(parts: list[str]) -> None:
    """In quotes, with backslashes before quotes and backslashes, each part comes back as it was."""
    text = ".".join('"' + part.replace("\\", r"\\").replace('"', r"\"") + '"' for part in parts)
    if len(text) <= 500:
        assert tuple(parts) == path_of(text)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"args": "a=b"}, "must be a dict"),
        ({"args": {1: "x"}}, "must be a dict"),
        ({"args": {"a": [1]}}, "not list"),
        ({"args": {"a": "x" * 201}}, "at most 200"),
        ({"args": {f"a{n}": n for n in range(11)}}, "at most 10 paths"),
        ({"args": {"": 1}}, "is no path"),
        ({"args": {"a\0": 1}}, "NUL"),
        ({"text": ""}, "must not be empty"),
        ({"text": 5}, "must be text, not int"),
        ({"fingerprint": "0123456789ABCDEF"}, "16 of 0 to 9"),
        ({"reason": "x" * 101}, "1 to 100"),
    ],
)
def test_filters_that_none_can_mean_are_refused(said: dict[str, Any], why: str) -> None:
    """Each names its field and says what to do."""
    with pytest.raises(InvalidOption, match=why) as told:
        Inside(**said)
    assert next(iter(said)) == told.value.option
