"""`webhooks`: the whole of a receiver's life on the command line."""

import json

import pytest

from tests.cli.conftest import Shop
from tests.support.programs.processes import CommandLine

KEY = "a key of the tests, long enough to be one"
URL = "https://receiver.example/hook?token=SECRETMARKER"


@pytest.fixture
def keyed(cli: CommandLine, shop: Shop) -> CommandLine:
    """The command line, with the key of which secrets are made."""
    cli.environment["JOBQUEUE_WEBHOOK_KEY"] = KEY
    return cli


async def test_a_webhook_lives(keyed: CommandLine, shop: Shop) -> None:
    """Added, listed, shown, paused, resumed, given a new secret, removed: by its id or a part of it."""
    added = await keyed.run(
        "webhooks",
        "add",
        URL,
        "shop:app",
        "--type",
        "job.dead",
        "--type",
        "job.cancelled",
        "--queue",
        "mail",
        "--json",
    )
    made = json.loads(added.out)
    short = made["id"][-8:]
    listed = await keyed.run("webhooks", "list", "--dsn", shop.dsn)
    shown = await keyed.run("webhooks", "show", short, "shop")
    secret = await keyed.run("webhooks", "secret", "shop:app", made["id"])
    paused = await keyed.run("webhooks", "pause", short, "shop")
    state = json.loads((await keyed.run("webhooks", "list", "shop", "--json")).out)[0]["state"]
    resumed = await keyed.run("webhooks", "resume", short, "shop")
    rotated = await keyed.run("webhooks", "rotate", short, "shop")
    unsure = await keyed.run("webhooks", "remove", short, "shop")
    removed = await keyed.run("webhooks", "remove", short, "shop", "--yes")
    gone = await keyed.run("webhooks", "show", short, "shop")

    assert 0 == added.code, added.err
    assert made["secret"] == secret.out.strip()
    row = listed.out.splitlines()[1].split()
    assert [made["id"], "active", "receiver.example", "job.cancelled", "job.dead", "queue", "mail"] == row
    assert "SECRETMARKER" not in listed.out + added.out
    assert URL in shown.out
    assert f"webhook {made['id']} is paused; its events wait in the log\n" == paused.out
    assert "paused" == state
    assert f"webhook {made['id']} goes on\n" == resumed.out
    assert rotated.out.startswith("whsec_")
    assert rotated.out != secret.out
    assert (2, 0) == (unsure.code, removed.code)
    assert "give --yes" in unsure.err
    assert (1, f"jobqueue: no single webhook is {short}; `webhooks list` has those there are\n") == (
        gone.code,
        gone.err,
    )


async def test_deliveries_are_told(keyed: CommandLine, shop: Shop) -> None:
    """A test delivery to a host that there is not waits for its next try; what is dead is tried again on demand."""
    made = json.loads((await keyed.run("webhooks", "add", "https://receiver.invalid/", "shop", "--json")).out)
    sent = await keyed.run("webhooks", "test", made["id"], "shop", "--json")
    assert 0 == (await keyed.run("worker", "shop", "--burst")).code
    listed = await keyed.run("webhooks", "deliveries", made["id"], "shop")
    (delivery,) = json.loads((await keyed.run("webhooks", "deliveries", made["id"], "shop", "--json")).out)
    none = await keyed.run("webhooks", "deliveries", made["id"], "shop", "--state", "completed")
    again = await keyed.run("webhooks", "redeliver", made["id"], "shop")

    assert json.loads(sent.out)["id"] == delivery["id"]
    assert ("scheduled", 1, "webhook.test", None) == (
        delivery["state"], delivery["tries"], delivery["event"], delivery["status"]
    )  # fmt: skip
    assert [delivery["id"], "scheduled", "webhook.test", "1"] == listed.out.splitlines()[1].split()[:4]
    assert "jobqueue: no such deliveries\n" == none.err
    assert "0 deliveries are tried again\n" == again.out


async def test_wrong_words_say_what_to_do(cli: CommandLine, shop: Shop) -> None:
    """One line that names the option, and never the URL; nothing is stored."""
    for words, told, code in (
        (("http://receiver.example/SECRETMARKER",), "URL: must be https", 2),
        ((URL, "--type", "job.ded"), "--type: there is no event 'job.ded'; did you mean job.dead?", 2),
        ((URL, "--type", "webhook.failed"), "--type: no webhook is told of webhooks", 2),
        ((URL, "--job", "17"), "--job: must be", 2),
        ((URL, "--secret-env", "whsec_SECRETMARKER/"), "--secret-env: must be the name", 2),
        ((URL,), "JOBQUEUE_WEBHOOK_KEY: must be set to a random text", 1),
    ):
        answer = await cli.run("webhooks", "add", *words, "--dsn", shop.dsn)
        assert code == answer.code, answer.err
        assert told in answer.err
        assert "SECRETMARKER" not in answer.err
    assert "give the id of one webhook" in (await cli.run("webhooks", "show", "shop")).err
    assert "[]\n" == (await cli.run("webhooks", "list", "shop", "--json")).out
