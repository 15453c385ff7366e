"""`jobs signal`: what is sent, to which job, and what became of it."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Shop
from tests.support.jobs.working import asked
from tests.support.programs.processes import Answer, CommandLine
from tests.support.programs.terminal import terminal

UNKNOWN = "01a20466-0396-7560-92ef-adfe1f5cacd8"


async def unread(shop: Shop) -> list[Any]:
    """What the jobs have not read: names and payloads, in the order in which they were sent."""
    text = await asked(
        shop.dsn, "select json_agg(json_build_array(name, payload) order by seq)::text from jobqueue.signal"
    )
    found: list[Any] = json.loads(text or "[]")
    return found


async def test_a_signal_is_sent(cli: CommandLine, shop: Shop) -> None:
    """By an id or its end, with JSON or without, with the App before the id or behind the JSON; in order; each says
    so."""
    id = shop.defer("note", '{"n": 1}')
    for words in (
        (id, "approved", '{"by": "ada", "cents": 12345678901234567890}', "--dsn", shop.dsn),
        (id[-8:], "approved", "--dsn", shop.dsn),
        ("shop", f"…{id[-8:]}", "note", '"text"'),
        (id, "note", "[1.5]", "shop:app"),
    ):
        answer = await cli.run("jobs", "signal", *words)
        assert (0, f"sent {words[words.index('shop') + 2 if 'shop' in words else 1]!r}\n", "") == (
            answer.code, answer.out, answer.err,
        )  # fmt: skip
    shown = json.loads((await cli.run("jobs", "show", id, "--dsn", shop.dsn, "--json")).out)
    told = json.loads((await cli.run("jobs", "signal", id, "last", "--dsn", shop.dsn, "--json")).out)

    assert [
        ["approved", {"by": "ada", "cents": 12345678901234567890}],
        ["approved", None],
        ["note", "text"],
        ["note", [1.5]],
        ["last", None],
    ] == await unread(shop)
    assert {"approved": 2, "note": 2} == shown["signals"]
    assert {"id": id, "signal": "last", "change": "done"} == told


async def test_a_payload_comes_from_stdin(cli: CommandLine, shop: Shop) -> None:
    """`-` reads it: what is too long for a command line, or nobody's business on it."""
    id = shop.defer("note", '{"n": 1}')
    with terminal(cli.folder, "jobs", "signal", id, "note", "-", JOBQUEUE_DSN=shop.dsn) as running:
        running.type('{"from": "stdin"}\n\x04')
        code = await running.ends()

    assert (0, [["note", {"from": "stdin"}]]) == (code, await unread(shop))


async def test_a_signal_that_comes_too_late(cli: CommandLine, shop: Shop) -> None:
    """A job that has ended, is not there, or takes no more: one line each, exit code 1, and nothing is stored."""
    ended, full = shop.defer("note", '{"n": 1}'), shop.defer("note", '{"n": 2}')
    await cli.run("jobs", "cancel", ended, "--dsn", shop.dsn)
    await asked(
        shop.dsn,
        "with sent as (insert into jobqueue.signal (job_id, name, payload) select $1, 'a', '1'"
        " from generate_series(1, 1000) returning 1) select count(*) from sent",
        full,
    )

    async def send(id: str, *words: str) -> Answer:
        return await cli.run("jobs", "signal", id, "b", *words, "--dsn", shop.dsn)

    late, unknown, no_room, document = (
        await send(ended),
        await send(UNKNOWN),
        await send(full),
        await send(ended, "1", "--json"),
    )

    assert (1, "", f"jobqueue: {ended}: it has ended\n") == (late.code, late.out, late.err)
    assert (1, "", 1) == (unknown.code, unknown.out, len(unknown.err.splitlines()))
    assert f"jobqueue: {UNKNOWN}: there is no such job" in unknown.err
    assert (1, "", f"jobqueue: job {full} has 1,000 signals that it has not read; nothing was sent\n") == (
        no_room.code, no_room.out, no_room.err,
    )  # fmt: skip
    assert (1, "too_late") == (document.code, json.loads(document.out)["change"])
    assert 1000 == len(await unread(shop))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ID", "note", "{bad hunter2"), "JSON: is not valid JSON"),
        (("ID", "note", "yes"), "a text has quotes of its own"),
        (("ID", "note", "shop"), "An App stands before the id"),
        (("ID", "n" * 101), "NAME: "),
        (("shop", "note", "1"), "jobs signal [APP] ID NAME [JSON]"),
        (("shop", "ID"), "jobs signal [APP] ID NAME [JSON]"),
        (("shop", "ID", "note", "1", "shop"), "unexpected extra argument"),
    ],
)
async def test_wrong_words_are_one_line(cli: CommandLine, shop: Shop, words: tuple[str, ...], said: str) -> None:
    """What cannot be sent is one line with exit code 2, and quotes nothing of it."""
    id = shop.defer("note", '{"n": 1}')

    answer = await cli.run("jobs", "signal", *(id if word == "ID" else word for word in words), "--dsn", shop.dsn)

    assert (2, "", 1) == (answer.code, answer.out, len(answer.err.splitlines()))
    assert said in answer.err
    assert "hunter2" not in answer.err
    assert [] == await unread(shop)


async def test_a_signal_is_as_large_as_the_settings_say(cli: CommandLine, shop: Shop) -> None:
    """`max_payload` of the App, or of the environment, limits it here as well."""
    id = shop.defer("note", '{"n": 1}')
    text = json.dumps("x" * 200)

    refused = await cli.run("jobs", "signal", id, "note", text, "--dsn", shop.dsn, JOBQUEUE_MAX_PAYLOAD="100")

    assert (1, "", 1) == (refused.code, refused.out, len(refused.err.splitlines()))
    assert "max_payload" in refused.err
    assert [] == await unread(shop)
