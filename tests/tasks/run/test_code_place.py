"""Where a failure came from: the last frame of the user's own code, in a few words."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jobqueue.base.job import AttemptError
from jobqueue.store.looking.lookup import attempt_errors
from jobqueue.store.outcomes import error_json
from jobqueue.tasks.run.failure import cut_off, describe


def in_a_library() -> None:
    json.loads("{")


def in_our_code() -> None:
    raise KeyError("x")


def installed(folder: Path, package: str, text: str) -> Callable[..., object]:
    """A function `run` of a module that lies in site-packages."""
    path = folder / "lib" / "python3.11" / "site-packages" / package / "work.py"
    space: dict[str, object] = {"__name__": f"{package}.work"}
    exec(compile(text, str(path), "exec"), space)  # noqa: S102 - a module without an import
    run = space["run"]
    assert callable(run)
    return run


def caught(function: Callable[..., object], *args: object) -> BaseException:
    with pytest.raises(Exception) as raised:
        function(*args)
    error = raised.value
    assert error.__traceback__ is not None
    return error.with_traceback(error.__traceback__.tb_next)  # without this test's own frame


@pytest.mark.parametrize("function", [in_a_library, in_our_code])
def test_the_last_own_frame_is_the_place(function: Callable[..., object]) -> None:
    """Frames of the standard library below it do not count; it is file, line and function."""
    line = function.__code__.co_firstlineno + 1
    assert f"run/test_code_place.py:{line} {function.__name__}" == describe(caught(function), 1).code_place


def test_installed_packages_are_not_the_user_s_own(tmp_path: Path) -> None:
    """Called from the user's code the caller is the place; where all is installed, the package of the first frame."""
    library = installed(tmp_path, "driver", "def run():\n    raise OSError\n")
    shop = installed(tmp_path, "shop", "def run(call):\n    call()\n")

    def ours() -> None:
        library()

    assert (describe(caught(ours), 1).code_place or "").endswith(" ours")
    assert "shop/work.py:2 run" == describe(caught(shop, library), 1).code_place


def test_an_error_without_frames_has_the_place_of_its_cause() -> None:
    """A run that was cut off says where; what was never raised has none."""
    place = describe(cut_off("late", caught(in_our_code)), 1).code_place
    assert place is not None
    assert place.endswith(" in_our_code")
    assert describe(ValueError(), 1).code_place is None
    circle = ValueError()
    circle.__cause__ = circle
    assert describe(circle, 1).code_place is None


def test_a_place_is_short_and_is_kept(tmp_path: Path) -> None:
    """At most 200 characters; it is stored with the error and read again."""
    space: dict[str, Callable[..., object]] = {}
    name = "é" * 300
    exec(compile(f"def {name}():\n    raise OSError\n", str(tmp_path / ("x" * 99 + ".py")), "exec"), space)  # noqa: S102 - a module without an import
    error = describe(caught(space[name]), 1)

    assert error.code_place is not None
    assert 200 >= len(error.code_place)
    text = error_json(error)
    assert error.code_place == attempt_errors(f"[{text}]")[0].code_place
    assert "code_place" not in (error_json(AttemptError("E", "m")) or "")
