"""`audit`: who did what at this command line and elsewhere, as lines and as JSON."""

import json
import re
import signal
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
        [me, "job.move", "1", "queue mail, to bulk"],
        [me, "job.cancel", "1", one],
    ] == [row[1:] for row in rows]
    (entry,) = json.loads(found.out)["entries"]
    assert ("job.move", {"filter": {"queue": "mail"}, "to": "bulk"}) == (entry["action"], entry["what"])
    assert [{"queue": "mail"}] == [entry["what"] for entry in json.loads(by_me.out)["entries"]]


async def test_an_empty_audit_says_so(cli: CommandLine, shop: Shop) -> None:
    """And a name that nobody can have is wrong usage."""
    assert "the audit has no such row" in (await cli.run("audit", "shop")).err
    wrong = await cli.run("audit", "shop", "--who", "")
    assert (2, True) == (wrong.code, "--who" in wrong.err)


async def test_workers_do_it_in_the_background(cli: CommandLine, shop: Shop) -> None:
    """`--in-background` says an id, `bulk` lists, shows, waits and cancels; ids and a missing terminal are refused."""
    ids = [shop.defer("note", '{"n": 1}', "mail") for _ in range(3)]
    assert "no bulk action is known" in (await cli.run("bulk", "list", "shop")).err
    words = ("jobs", "move", "--queue", "mail", "--to", "bulk", "--in-background", "shop")
    assert 2 == (await cli.run(*words)).code
    assert 2 == (await cli.run("jobs", "cancel", ids[0], "--in-background", "--yes", "shop")).code
    begun = await cli.run(*words, "--yes")
    assert 0 == begun.code
    id = begun.out.split()[1]

    worker = cli.start("worker", "shop", "--queues", "none")
    shown = await cli.run("bulk", "show", id, "shop", "--wait", "--json")
    document = json.loads(shown.out)
    assert (0, "finished", 3) == (shown.code, document["state"], document["changed"])
    assert re.search(rf"{id} +move +finished +3 +queue mail", (await cli.run("bulk", "list", "shop")).out)
    assert "it had ended: finished" in (await cli.run("bulk", "cancel", "shop", id)).out
    worker.signal(signal.SIGTERM)
    assert 0 == await worker.ends()
