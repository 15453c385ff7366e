"""How a command finds the user's App, and what it says when it does not."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobqueue.cli.loading import load_app
from jobqueue.cli.terminal.failures import Refusal
from tests.support.programs.processes import CommandLine

PACK = """
from jobqueue import App, Router

class Holder:
    pass

def made(schema):
    return App("postgresql://nowhere", schema=schema)

app = made("by_default")
second = made("by_name")
holder = Holder()
holder.inner = Holder()
holder.inner.app = made("by_path")
router = Router()
number = 5

def factory():
    return made("by_factory")

class Site:
    def __call__(self, scope, receive, send): ...

site = Site()

def needy(schema):
    return made(schema)

async def slow():
    return app

def wrong():
    return 5

def broken():
    raise KeyError("inside the factory")
"""


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with a package of the user's that has Apps in all places."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "shop.py").write_text(PACK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "pack"]:
        del sys.modules[name]


@pytest.mark.usefixtures("pack")
@pytest.mark.parametrize(
    ("target", "schema"),
    [
        ("pack.shop", "by_default"),
        ("pack.shop:app", "by_default"),
        ("pack.shop:second", "by_name"),
        ("pack.shop:holder.inner.app", "by_path"),
        ("pack.shop:factory", "by_factory"),
    ],
)
def test_an_app_is_found(target: str, schema: str) -> None:
    """The attribute is `app` by default, paths may be dotted, a factory is called; the current directory counts."""
    assert schema == load_app(target).schema


@pytest.mark.usefixtures("pack")
@pytest.mark.parametrize(
    ("target", "code", "words"),
    [
        ("nowhere", 1, "No module named 'nowhere' (current directory: "),
        ("pack.nowhere:app", 1, "No module named 'pack.nowhere' (current directory: "),
        ("pack.shop:ap", 1, "pack.shop has no 'ap'; Apps there: pack.shop:app, pack.shop:second"),
        ("pack.shop:holder.other", 1, "pack.shop has no 'holder.other'; Apps there: pack.shop:app"),
        ("pack.shop:number", 1, "pack.shop:number is an int, not an App; Apps there: pack.shop:app"),
        ("pack.shop:Holder", 1, "pack.shop:Holder is the class Holder, not an App"),
        ("pack.shop:router", 1, "pack.shop:router is a Router; name the App that includes it"),
        ("pack.shop:site", 1, "pack.shop:site is a Site, not an App; Apps there: pack.shop:app"),
        ("pack.shop:needy", 1, "pack.shop:needy needs arguments"),
        ("pack.shop:slow", 1, "pack.shop:slow is an async function"),
        ("pack.shop:wrong", 1, "pack.shop:wrong() returned an object of type int"),
        ("json", 1, "json has no 'app'; there is no App in json"),
        ("shop.py:app", 2, "'shop.py:app' is a file, not a module"),
        ("two words", 2, "'two words' does not name an App"),
        ("postgresql://me:geheim@host/db", 2, "that is a connection string, not an App; give it as --dsn"),
    ],
)
def test_what_is_wrong_is_said(target: str, code: int, words: str) -> None:
    """A target that leads nowhere is refused in a sentence which says what is there instead."""
    with pytest.raises(Refusal) as refusal:
        load_app(target)

    assert str(refusal.value).startswith(words)
    assert code == refusal.value.code


@pytest.mark.usefixtures("pack")
def test_an_error_in_a_factory_is_the_user_s_own() -> None:
    """A factory that fails raises its own error, whose traceback leads into it."""
    with pytest.raises(KeyError) as error:
        load_app("pack.shop:broken")

    assert "broken" == error.traceback[-1].name


async def test_a_refusal_is_one_line(cli: CommandLine) -> None:
    """What is refused is one line on stderr and nothing on stdout; what is found is used."""
    cli.module("pack.shop", PACK)

    wrong = await cli.run("migrate", "sql", "pack.shop:number")
    right = await cli.run("migrate", "sql", "pack.shop:factory")

    assert (1, "", 1) == (wrong.code, wrong.out, len(wrong.err.splitlines()))
    assert wrong.err.startswith("jobqueue: pack.shop:number is an int")
    assert (0, "") == (right.code, right.err)
    assert 'create schema if not exists "by_factory"' in right.out


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("def helper():\n    raise ValueError('theirs')\nhelper()\n", "ValueError: theirs"),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        (
            "from jobqueue import App\napp = App()\n@app.task\nasync def t(x) -> None: ...\n",
            "jobqueue.base.errors.InvalidSignature: ",
        ),
    ],
)
async def test_an_error_in_the_user_s_module_keeps_its_traceback(cli: CommandLine, text: str, last: str) -> None:
    """What their module raises at import is shown from their first frame on, without frames of ours before it."""
    cli.module("broken", text)

    answer = await cli.run("worker", "broken")

    lines = answer.err.splitlines()
    assert 1 == answer.code
    assert "Traceback (most recent call last):" == lines[0]
    assert "broken.py" in lines[1]
    assert lines[-1].startswith(last)
    assert "importlib" not in answer.err


async def test_a_syntax_error_shows_where(cli: CommandLine) -> None:
    """A module that cannot be compiled is shown with file and line, without any frames."""
    cli.module("broken", "x = 1\ndef f(:\n")

    answer = await cli.run("worker", "broken")

    assert 1 == answer.code
    assert "broken.py" in answer.err.splitlines()[0]
    assert "line 2" in answer.err.splitlines()[0]
    assert "SyntaxError" in answer.err.splitlines()[-1]


async def test_a_wrong_setting_is_one_line_with_its_place(cli: CommandLine) -> None:
    """A setting that the App refuses is named, with the line of the module that made the App."""
    cli.module("shop", "from jobqueue import App\napp = App('postgresql://nowhere')\n")

    answer = await cli.run("worker", "shop", JOBQUEUE_POLL="often")

    assert 1 == answer.code
    assert "JOBQUEUE_POLL: must be a number" in answer.err
    assert answer.err.rstrip().endswith("shop.py:2)")
    assert 1 == len(answer.err.splitlines())


async def test_a_missing_module_of_tasks_is_named(cli: CommandLine) -> None:
    """A module that `tasks=` names and nobody wrote is one line; an error inside one keeps its traceback."""
    cli.module("shop", "from jobqueue import App\napp = App('postgresql://nowhere', tasks=['shop_mail'])\n")

    answer = await cli.run("worker", "shop")
    assert 1 == answer.code
    assert "No module named 'shop_mail': it is named in tasks= of shop" in answer.err
    assert 1 == len(answer.err.splitlines())

    cli.module("shop_mail", "1 / 0\n")
    answer = await cli.run("worker", "shop")
    assert 1 == answer.code
    assert "shop_mail.py" in answer.err.splitlines()[1]
    assert "ZeroDivisionError: division by zero" == answer.err.splitlines()[-1]
