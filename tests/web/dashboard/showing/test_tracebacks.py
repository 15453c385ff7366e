"""The lines of a traceback, and whose they are."""

from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

import jobqueue
from jobqueue.web.dashboard.showing.tracebacks import Line, lines_of, place_of

OURS = Path(jobqueue.__file__).parent / "tasks" / "run" / "call.py"
TRACE = f'''Traceback (most recent call last):
  File "/srv/shop/billing.py", line 88, in charge
    receipt = await gateway.capture(order.token)
              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "{OURS}", line 7, in call
    return await ours()
  File "/srv/venv/lib/python3.13/site-packages/gateway/client.py", line 214, in capture
    raise _error_of(answer)
shop.errors.CardDeclined: the issuer
    answered 05
'''
THEIRS = [*(line for line in TRACE.splitlines() if str(OURS) not in line), "", "x", '  File "a", line 1', "  |"]


def test_frames_are_told_apart() -> None:
    """Own ones, those of libraries; ours are left out, source included. What was raised may have many lines."""
    lines = lines_of(TRACE)
    kinds = ["head", "own", "code", "code", "library", "library", "raised", "raised"]
    assert kinds == [line.kind for line in lines]
    assert Line("raised", "    answered 05") == lines[-1]


def test_the_place_is_that_of_the_innermost_own_frame() -> None:
    """With as much of the path as tells files of one name apart."""
    assert "shop/billing.py:88 in charge" == place_of(lines_of(TRACE))
    assert place_of(lines_of("ValueError: no")) is None


def test_a_group_is_told_as_well() -> None:
    """Its frames stand behind a margin."""
    group = """  + Exception Group Traceback (most recent call last):
  |   File "/srv/shop/all.py", line 3, in every
  |     raise ExceptionGroup("two", errors)
  | ExceptionGroup: two (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/usr/lib/python3.13/json/decoder.py", line 5, in one
    |     raise ValueError("no")
    | ValueError: no
    +------------------------------------"""
    kinds = ["head", "own", "code", "raised", "raised", "head", "library", "library", "raised", "raised"]
    assert kinds == [line.kind for line in lines_of(group)]


@given(st.text() | st.lists(st.sampled_from(THEIRS)).map("\n".join))
def test_no_line_is_lost_but_ours(text: str) -> None:
    """Whatever it is: in order, each once."""
    assume(str(OURS) not in text)
    assert text.splitlines() == [line.text for line in lines_of(text)]


def test_of_a_long_one_the_ends_are_kept() -> None:
    """A recursion has a thousand frames, all alike."""
    lines = lines_of("\n".join(f"line {number}" for number in range(10_000)))
    assert (2_001, "line 0", "line 9999") == (len(lines), lines[0].text, lines[-1].text)
    assert ["0", "... 8 lines ...", "9"] == [line.text for line in lines_of("\n".join("0123456789"), 2)]
