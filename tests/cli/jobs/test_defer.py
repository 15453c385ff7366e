"""`defer`: a job of the App's own task."""

import json

import pytest

from tests.cli.conftest import Shop
from tests.support.programs.processes import CommandLine


async def test_a_job_is_stored_as_its_task_says(cli: CommandLine, shop: Shop) -> None:
    """S2-01: the id is all that is printed; queue and options are the job's; a key's second defer tells of the
    first."""
    first = await cli.run(
        "defer", "shop", "wait", '{"seconds": 1}', "--key", "k", "--priority", "3", "--meta", '{"a": 1}'
    )
    second = await cli.run("defer", "shop:app", "wait", '{"seconds": 2}', "--key", "k", "--json")

    id = first.out.strip()
    job = json.loads((await cli.run("jobs", "show", id, "shop", "--json", "--payload")).out)
    assert (0, "") == (first.code, first.err)
    assert ("mail", 3, {"a": 1}, "shop", {"seconds": 1.0}) == (
        job["queue"], job["priority"], job["meta"], job["origin"], job["args"],
    )  # fmt: skip
    assert {"id": id, "task": "wait", "duplicate": True, "conflict": "skipped"} == json.loads(second.out)
    assert "nothing was stored" in second.err
    assert {"ready": 1} == shop.states()


KEYED = """
import os
from jobqueue import App, Unique

app = App(os.environ["SHOP_DSN"])

@app.task(unique=Unique("k", on_conflict="replace+move"))
async def save(n: int) -> None: ...

@app.task(name="strict", unique=Unique("k", on_conflict="raise"))
async def only_once(n: int) -> None: ...
"""


async def test_what_became_of_the_holder_of_a_key_is_said(cli: CommandLine, shop: Shop) -> None:
    """A10: a task that replaces says so, one that raises is one line with the holder's id, without the arguments."""
    cli.module("keyed", KEYED)
    first = await cli.run("defer", "keyed", "save", '{"n": 1}')
    second = await cli.run("defer", "keyed", "save", '{"n": 2}', "--json")
    held = await cli.run("defer", "keyed", "strict", '{"n": 3}')
    refused = await cli.run("defer", "keyed", "strict", '{"n": 471147114711}')

    id = first.out.strip()
    assert {"id": id, "task": "save", "duplicate": True, "conflict": "replaced+moved"} == json.loads(second.out)
    assert f"job {id} was there already: it was replaced+moved" in second.err
    assert (1, "", 1) == (refused.code, refused.out, len(refused.err.splitlines()))
    assert held.out.strip() in refused.err
    assert "471147114711" not in refused.err
    assert {"ready": 2} == shop.states()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("shop", "nope", "{}"), 1, "shop has no task 'nope'; these are: block, cling"),
        (("shop", "note", "{}"), 1, "note arguments: n: is missing"),
        (("shop", "note", '{"n": "hunter2"}'), 1, "note arguments: n: does not fit"),
        (("shop", "note", '{"n": 1, "m": 2}'), 1, "m: is unknown to the signature"),
        (("shop", "note", "{n: hunter2}"), 1, "JSON: is not valid JSON"),
        (("shop", "note", '["hunter2"]'), 2, "JSON: must be an object"),
        (("shop", "note", "-"), 1, "JSON: is not valid JSON"),
        (("shop", "note", '{"n": 1}', "--priority", "99999"), 2, "--priority: must be a whole number"),
        (("shop", "note", '{"n": 1}', "--delay", "soon"), 2, "--delay: must be a length"),
        (("note", '{"n": 1}', "--dsn", "postgresql://me:hunter2@h/d"), 2, "select jobqueue.defer('TASK'"),
    ],
)
async def test_what_cannot_be_is_one_line(
    cli: CommandLine, shop: Shop, words: tuple[str, ...], code: int, told: str
) -> None:
    """S4-39, S0-01: task, arguments and options are checked before anything is stored; neither value nor password is
    quoted."""
    answer = await cli.run("defer", *words)

    assert (code, "", 1) == (answer.code, answer.out, len(answer.err.splitlines()))
    assert told in answer.err
    assert "hunter2" not in answer.err
    assert not shop.states()
