"""`limits`: list, show, set, reset, recount; and what `jobs` and `top` say of jobs in a line."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.cli.conftest import Shop
from tests.support.patience import PATIENCE
from tests.support.programs.processes import CommandLine, Process
from tests.support.waiting import wait_until

MODULE = """
import asyncio, os
from jobqueue import App, Limit, Rate

app = App(os.environ.get("SHOP_DSN", "postgresql://nowhere"), name="shop")
app.limit_queue("mail", Limit(20))

@app.task(limit=[Limit(1, key="tenant"), Limit(5, rate=Rate(1000, per=60, burst=500), name="smtp")])
async def hold(tenant: str) -> None:
    while not os.path.exists("let go"):
        await asyncio.sleep(0.01)

@app.task(limit=Limit(1, ordered=True, name="the line of all that is done one after the other"))
async def line() -> None: ...
"""


@asynccontextmanager
async def held(cli: CommandLine, shop: Shop, *tenants: str) -> AsyncIterator[tuple[Process, list[str]]]:
    """A worker in which the first job of each tenant runs, and others wait for it; their ids."""
    cli.module("limited", MODULE)
    worker = cli.start("worker", "limited")
    await worker.says("concurrency")
    ids = [shop.defer("hold", json.dumps({"tenant": tenant})) for tenant in tenants]

    async def all_are_in_place() -> bool:
        waiting = len(tenants) - len(set(tenants))
        return {"running": len(set(tenants))} | ({"blocked": waiting} if waiting else {}) == dict(shop.states())

    await wait_until(all_are_in_place, "the first of each tenant runs, the others wait", PATIENCE)
    yield worker, ids


async def test_limits_are_listed_and_shown(cli: CommandLine, shop: Shop) -> None:
    """All that workers have declared, with their lines, in words and as JSON; without the user's module too."""
    assert "no worker has declared a limit" in (await cli.run("limits", "list", "shop")).err
    async with held(cli, shop, "acme", "acme", "acme", "zoo", "zoo"):
        listed = await cli.run("limits", "list", "--dsn", shop.dsn)
        rows = {re.split(" {2,}", line)[0]: line for line in listed.out.splitlines()}
        assert {"limit", "hold", "queue/mail", "smtp", "the line of all that is done one after the other"} == set(rows)
        assert re.fullmatch(r"hold +1 +2 +3 +\d+ s +longest: acme 2, zoo 1", rows["hold"])
        assert re.search(r" 5 +1000/60 s +2 +0$", rows["smtp"])
        assert rows["the line of all that is done one after the other"].endswith("in order")
        document = {
            limit["name"]: limit for limit in json.loads((await cli.run("limits", "list", "limited", "--json")).out)
        }
        assert {"count": 1000, "per": 60.0, "burst": 500} == document["smtp"]["rate"]
        assert (2, 3) == (document["hold"]["held"], document["hold"]["waiting"])

        shown = await cli.run("limits", "show", "hold", "limited")
        assert re.search(r"^  acme +1 +2 +\d+ s$", shown.out, re.MULTILINE)
        one = await cli.run("limits", "show", "--key", "zoo", "limited:app", "hold", "--json")
        assert [("zoo", 1, 1)] == [
            (line["key"], line["held"], line["waiting"]) for line in json.loads(one.out)["lines"]
        ]
        assert (
            "acme" not in (await cli.run("limits", "show", "hold", "limited", "--key", "zoo")).out.partition("lines")[2]
        )
        assert "nobody waits" in (await cli.run("limits", "show", "hold", "limited", "--key", "none")).err


async def test_a_blocked_job_says_what_it_waits_for(cli: CommandLine, shop: Shop) -> None:
    """`jobs show` names limit, key and who is before it, `jobs list` the limit, `top` has the lines."""
    async with held(cli, shop, "acme", "acme", "acme") as (_, ids):
        shown = await cli.run("jobs", "show", ids[2], "--dsn", shop.dsn)
        assert "  waits for limit hold of acme, 1 before it\n  1 of 1 places held\n" in shown.out
        assert "nobody before it" in (await cli.run("jobs", "show", ids[1], "shop")).out
        document = json.loads((await cli.run("jobs", "show", ids[2], "shop", "--json")).out)
        assert ("hold\nacme", 1, ["hold\nacme", "smtp"]) == (
            document["gate"], document["line"]["before"], document["gates"]
        )  # fmt: skip
        listed = await cli.run("jobs", "list", "shop", "--state", "blocked")
        assert 2 == listed.out.count("waits for limit hold of acme")
        top = await cli.run("top", "shop", "--once")
        assert re.search(r"^hold +1 +1 +2 +\d+ s +longest: acme 2$", top.out, re.MULTILINE)
        (limit,) = json.loads((await cli.run("top", "shop", "--once", "--json")).out)["limits"]
        assert ("hold", 2) == (limit["name"], limit["waiting"])


async def test_a_limit_is_changed_and_reset(cli: CommandLine, shop: Shop) -> None:
    """What is set holds for the worker that runs; it is said in words, in JSON, in lists, and taken back."""
    async with held(cli, shop, "acme", "acme") as (_, ids):
        changed = await cli.run("limits", "set", "hold", "--concurrency", "2", "--dsn", shop.dsn)
        assert "limit hold is 2 at once, until `limits reset`; what runs goes on\n" == changed.out

        async def both_run() -> bool:
            return {"running": 2} == dict(shop.states())

        await wait_until(both_run, "the second job runs too", PATIENCE)
        assert "changed by hand" in (await cli.run("limits", "list", "shop")).out
        assert "changed   at once 2; " in (await cli.run("limits", "show", "hold", "shop")).out
        stopped = await cli.run("limits", "set", "hold", "shop", "--concurrency", "0")
        assert 0 == stopped.code
        waiting = shop.defer("hold", '{"tenant": "new"}')
        told = (await cli.run("jobs", "show", waiting, "shop")).out
        assert "this limit is 0 now, so nothing begins: `limits set hold --concurrency N` or `limits reset`" in told
        reset = await cli.run("limits", "reset", "shop:app", "hold")
        assert "limit hold is 1 at once, as its code says\n" == reset.out
        rate = await cli.run("limits", "set", "smtp", "shop", "--rate", "5/1m", "--burst", "2", "--json")
        assert {"count": 5, "per": 60.0, "burst": 2} == json.loads(rate.out)["changed"]["rate"]
        recount = await cli.run("limits", "recount", "hold", "shop")
        assert "limit hold: the number of places was right\n" == recount.out
        assert {"limit": "hold", "corrected": 0} == json.loads(
            (await cli.run("limits", "recount", "hold", "shop", "--json")).out
        )
        assert 2 == len(ids)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("set", "smtp"), 2, "say what is to be changed"),
        (("set", "smtp", "--burst", "2"), 2, "--burst: is part of a rate"),
        (("set", "smtp", "--rate", "100"), 2, "--rate: must be a number and a time such as 100/60"),
        (("set", "smtp", "--rate", "100/1y"), 2, "--rate: must be a length of time"),
        (("set", "smtp", "--rate", "0/1m"), 2, "--rate: must be a whole number from 1"),
        (("set", "smtp", "--rate", "2/1m", "--burst", "3"), 2, "--burst: must be a whole number from 1 to 2"),
        (("set", "smtp", "--concurrency", "-1"), 2, "--concurrency: must be a whole number from 0"),
        (("set", "mail", "--concurrency", "1"), 1, "no limit 'mail'"),
        (("set", "hold", "--rate", "1/1s"), 2, "--rate: limit 'hold' is declared without one"),
        (("show", "mail"), 1, "no limit 'mail'"),
        (("show", "hold", "--key", "x" * 201), 2, "--key: must have at most 200 characters"),
        (("reset", "x" * 101), 2, "NAME: must have 1 to 100 characters"),
        (("recount", "mail"), 1, "no limit 'mail'"),
    ],
)
async def test_wrong_words_are_one_line(
    cli: CommandLine, shop: Shop, words: tuple[str, ...], code: int, told: str
) -> None:
    """What cannot be is one line that names the option, or the limit that there is not."""
    cli.module("limited", MODULE)
    await cli.run("worker", "limited", "--burst")
    answer = await cli.run("limits", *words, "--dsn", shop.dsn)
    assert (code, 1) == (answer.code, len(answer.err.splitlines()))
    assert told in answer.err
