"""`bundles`: what a person at a terminal, or a script, does with them."""

import json
from collections.abc import Callable
from typing import Any

from jobqueue import NewJob
from tests.cli.conftest import Shop
from tests.support.jobs.working import new_app
from tests.support.programs.processes import CommandLine
from tests.support.programs.terminal import terminal


async def made(shop: Shop, *tasks: str) -> str:
    """A bundle of jobs that the user's module knows; its id."""
    app = new_app(shop.dsn)

    @app.task
    async def note(n: int) -> int:
        return n

    @app.task(queue="bulk")
    async def fail(text: str) -> None:
        raise AssertionError(text)

    made: dict[str, Callable[[], NewJob[Any]]] = {
        "note": lambda: note.job(1),
        "fail": lambda: fail.job("x"),
        "later": lambda: note.options(delay=3600).job(2),
    }
    async with app, app.bundle("monthly import") as bundle:
        for task in tasks:
            bundle.add(made[task]())
    return str(bundle.id)


async def test_a_bundle_is_looked_at(cli: CommandLine, shop: Shop) -> None:
    """Listed and shown, by its id or a part of it, with what failed in it; as JSON too."""
    id = await made(shop, "note", "note", "fail")
    before = (await cli.run("bundles", "list", "shop", "--unfinished")).out.splitlines()[1].split()
    assert 0 == (await cli.run("worker", "shop", "--burst")).code
    listed = await cli.run("bundles", "list", "--dsn", shop.dsn)
    shown = await cli.run("bundles", "show", id[-8:], "shop")
    document = json.loads((await cli.run("bundles", "show", "shop:app", id, "--json")).out)
    none = await cli.run("bundles", "list", "shop", "--unfinished")
    unknown = await cli.run("bundles", "show", "00000000", "shop")

    assert [id, "monthly", "import", "running", "0", "3"] == before[:6]
    assert [id, "monthly", "import", "dead", "3", "3", "1"] == listed.out.splitlines()[1].split()[:7]
    assert f"bundle {id}  dead\n" in shown.out
    assert "3: 2 completed, 1 dead" in shown.out
    assert "Fatal" in shown.out
    assert (3, 2, 1, True, 1.0) == tuple(
        document[name] for name in ("added", "completed", "dead", "has_errors", "fraction")
    )
    assert "no such bundles\n" in none.err
    assert (1, "jobqueue: no single bundle is 00000000; `bundles list` has those there are\n") == (
        unknown.code, unknown.err
    )  # fmt: skip


async def test_a_script_waits(cli: CommandLine, shop: Shop) -> None:
    """`wait` says how it ended, by its exit code too: 0 completed, 1 with errors, 124 not in time."""
    good, bad, late = await made(shop, "note"), await made(shop, "note", "fail"), await made(shop, "later")
    assert 0 == (await cli.run("worker", "shop", "--burst")).code
    answers = [await cli.run("bundles", "wait", id, "shop", "--timeout", "0.1") for id in (good, bad, late)]

    assert [0, 1, 124] == [answer.code for answer in answers]
    assert ["completed: 1 completed\n", "dead: 1 completed, 1 dead\n", ""] == [answer.out for answer in answers]
    assert f"bundle {late} has not ended within 0.1 s\n" in answers[2].err


async def test_a_bundle_is_steered(cli: CommandLine, shop: Shop) -> None:
    """Cancelled, retried and deleted with its members; what is for good is asked for, or said with --yes."""
    id = await made(shop, "later", "fail")
    assert 0 == (await cli.run("worker", "shop", "--burst")).code
    unsure = await cli.run("bundles", "cancel", id, "shop")
    cancelled = await cli.run("bundles", "cancel", id, "shop", "--yes")
    retried = await cli.run("bundles", "retry", id, "shop")
    with terminal(cli.folder, "bundles", "delete", id, "--dsn", shop.dsn) as running:
        await running.shows("[y/N]")
        running.type("y\n")
        deleted = await running.ends(), running.text

    assert 2 == unsure.code
    assert "give --yes" in unsure.err
    assert (0, "cancelled 1 job\n") == (cancelled.code, cancelled.out)
    assert (0, "retried 1 job\n") == (retried.code, retried.out)
    assert 0 == deleted[0]
    assert "delete bundle monthly import with its members (1 pending, 1 cancelled)?" in deleted[1]
    assert "deleted 2 jobs" in deleted[1]
    assert {} == shop.states()
