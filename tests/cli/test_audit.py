"""`audit`: who did what at this command line and elsewhere, as lines and as JSON."""

import json
import re
import socket

from tests.cli.conftest import Shop
from tests.support.programs.processes import CommandLine


async def test_what_the_command_line_changes_is_told(cli: CommandLine, shop: Shop) -> None:
    """What a verb changes says that it was this user; `audit` shows the newest first, `--job` finds what met one."""
    cli.environment["LOGNAME"] = "ada"
    one, other = shop.defer("note", '{"n": 1}', "mail"), shop.defer("note", '{"n": 2}', "mail")
    me = f"cli:ada@{socket.gethostname()}"

    assert 0 == (await cli.run("jobs", "cancel", one, "shop")).code
    assert 0 == (await cli.run("jobs", "move", "--queue", "mail", "--to", "bulk", "--yes", "shop")).code
    assert 0 == (await cli.run("queues", "pause", "mail", "shop")).code
    shown = await cli.run("audit", "shop")
    found = await cli.run("audit", "shop", "--job", other, "--json")
    by_me = await cli.run("audit", "shop", "--who", me, "--action", "queue.pause", "--json")

    head, *rows = [re.split(" {2,}", line) for line in shown.out.splitlines()]
    assert ["at (UTC)", "who", "action", "changed", "what"] == head
    assert [
        [me, "queue.pause", "1", "queue mail"],
        [me, "job.move", "1", f"{other}, to bulk"],
        [me, "job.cancel", "1", one],
    ] == [row[1:] for row in rows]
    (entry,) = json.loads(found.out)["entries"]
    assert ("job.move", {"ids": [other], "to": "bulk"}) == (entry["action"], entry["what"])
    assert [{"queue": "mail"}] == [entry["what"] for entry in json.loads(by_me.out)["entries"]]


async def test_an_empty_audit_says_so(cli: CommandLine, shop: Shop) -> None:
    """And a name that nobody can have is wrong usage."""
    assert "the audit has no such row" in (await cli.run("audit", "shop")).err
    wrong = await cli.run("audit", "shop", "--who", "")
    assert (2, True) == (wrong.code, "--who" in wrong.err)
