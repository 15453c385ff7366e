"""`queues`: list, pause, resume."""

import json

import pytest

from tests.cli.conftest import Shop
from tests.support.processes import CommandLine

pytestmark = pytest.mark.timeout(90)  # several processes, on a machine that may be busy


async def test_a_paused_queue_is_listed_and_rests(cli: CommandLine, shop: Shop) -> None:
    """Numbers and pauses are listed; a paused queue runs nothing until it is resumed; without the user's module."""
    shop.defer("note", '{"n": 1}')
    shop.defer("wait", '{"seconds": 0}', "mail", delay=3600)
    paused = await cli.run("queues", "pause", "default", "--dsn", shop.dsn)
    timed = await cli.run("queues", "pause", "shop:app", "mail", "--for", "10m")

    listed = await cli.run("queues", "list", "--dsn", shop.dsn)
    document = {queue["name"]: queue for queue in json.loads((await cli.run("queues", "list", "shop", "--json")).out)}

    assert (0, "queue default is paused until it is resumed; what runs goes on\n") == (paused.code, paused.out)
    assert 0 == timed.code
    rows = {line.split()[0]: line for line in listed.out.splitlines()}
    assert ["0", "1", "0"] == rows["default"].split()[1:4]
    assert ["1", "0", "0"] == rows["mail"].split()[1:4]
    assert "resumes in 10 min" in rows["mail"]
    assert (True, None) == (document["default"]["paused"], document["default"]["resume_at"])
    resumed = await cli.run("queues", "resume", "default", "shop")
    again = await cli.run("queues", "resume", "default", "shop")
    assert ("queue default is resumed\n", "queue default was not paused\n") == (resumed.out, again.out)
    assert 0 == (await cli.run("worker", "shop", "--burst", "--queues", "default")).code
    assert {"completed": 1, "scheduled": 1} == shop.states()


async def test_wrong_words_are_usage(cli: CommandLine, shop: Shop) -> None:
    """One line that names the option; and a queue without jobs is asked about, in case its name is a slip."""
    for words, told in (
        (("mail", "--for", "1y"), "--for: must be a length of time"),
        (("mail", "--until", "2020-01-01T00:00Z"), "--until: this time is over"),
        (("mail", "--until", "2090-01-01T00:00Z", "--for", "1h"), "either --for or --until"),
        (("*",), "'*' means all queues"),
    ):
        answer = await cli.run("queues", "pause", *words, "--dsn", shop.dsn)
        assert 2 == answer.code
        assert told in answer.err
    assert "[]\n" == (await cli.run("queues", "list", "shop", "--json")).out
    assert "is that its name?" in (await cli.run("queues", "pause", "mial", "shop")).err
