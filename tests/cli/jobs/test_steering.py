"""The verbs that change jobs, and `wait`: by ids and by filters, with and without a terminal."""

import json

import pytest

from tests.cli.conftest import Shop
from tests.support.jobs.working import asked
from tests.support.patience import PATIENCE
from tests.support.programs.processes import CommandLine
from tests.support.programs.terminal import terminal

UNKNOWN = "01a20466-0396-7560-92ef-adfe1f5cacd8"


def later(shop: Shop, queue: str = "mail", **options: object) -> str:
    return shop.defer("wait", '{"seconds": 471147114711}', queue, delay=3600, **options)


async def shown(cli: CommandLine, shop: Shop, id: str) -> dict[str, object]:
    document: dict[str, object] = json.loads((await cli.run("jobs", "show", id, "--dsn", shop.dsn, "--json")).out)
    return document


async def in_terminal(cli: CommandLine, shop: Shop, answer: str, *words: str) -> tuple[int, str]:
    """Run a command in a terminal, type `answer` at its question; its exit code and what was written."""
    with terminal(cli.folder, *words, JOBQUEUE_DSN=shop.dsn) as running:
        await running.shows("[y/N]")
        running.type(answer)
        return await running.ends(), running.text


async def test_members_are_meant_or_spared(cli: CommandLine, shop: Shop) -> None:
    """S4-99: --bundle means the members of one bundle, --no-bundle jobs of none: what has ended goes without them."""
    bundle = "01a20466-0396-7560-92ef-adfe1f5cacd8"
    members, others = [later(shop) for _ in range(3)], [later(shop) for _ in range(2)]
    into = "update jobqueue.job set bundle_id = $1 where id = any($2::uuid[]) returning 1"
    await asked(shop.dsn, into, bundle, members)
    reach = ("--dsn", shop.dsn, "--yes")

    cancelled = await cli.run("jobs", "cancel", "--bundle", bundle, *reach)
    assert "cancelled 3 jobs\n" == cancelled.out, cancelled.err
    assert "cancelled 2 jobs\n" == (await cli.run("jobs", "cancel", "--no-bundle", *reach)).out
    retried = await cli.run("jobs", "retry", "--bundle", bundle, "--state", "cancelled", "--task", "none", *reach)
    assert (0, "") == (retried.code, retried.out)

    deleted = json.loads((await cli.run("jobs", "delete", "--state", "cancelled", "--no-bundle", "--json", *reach)).out)
    assert set(others) == {job["id"] for job in deleted["jobs"]}
    assert {"cancelled": 3} == shop.states()


async def test_each_verb_by_id(cli: CommandLine, shop: Shop) -> None:
    """S2-08, S4-57, S4-58, S4-99: each verb does what it says to the ids that were given, without the user's module,
    and sums it up."""
    one, two = later(shop), later(shop)
    reach = ("--dsn", shop.dsn)

    for words, said in (
        (("reschedule", one, two, "--in", "2h"), "rescheduled 2 jobs\n"),
        (("move", one, "--to", "slow"), "moved 1 job to queue slow\n"),
        (("priority", one, "--to", "-5"), "gave 1 job priority -5\n"),
        (("cancel", two), "cancelled 1 job\n"),
        (("retry", two), "retried 1 job\n"),
    ):
        answer = await cli.run("jobs", *words, *reach)
        assert (0, said, "") == (answer.code, answer.out, answer.err)
    changed = await shown(cli, shop, one)
    assert ("slow", -5, "scheduled") == (changed["queue"], changed["priority"], changed["state"])
    assert "ready" == (await shown(cli, shop, two))["state"]
    assert "deleted 1 job\n" == (await cli.run("jobs", "delete", one, "--yes", *reach)).out
    assert {"ready": 1} == shop.states()


async def test_by_filter(cli: CommandLine, shop: Shop) -> None:
    """S4-98, S4-99: a filter means the jobs for which all of it holds; a key is that of a task; nothing found is no
    error."""
    later(shop, "bulk", origin="web"), later(shop, "bulk")
    keyed = (await cli.run("defer", "shop", "note", '{"n": 1}', "--key", "k", "--delay", "1h")).out.strip()

    moved = await cli.run("jobs", "move", "shop", "--origin", "web", "--to", "slow")
    nobody = await cli.run("jobs", "cancel", "shop", "--queue", "nobody", "--yes")
    by_key = await cli.run("jobs", "cancel", "shop", "--task", "note", "--key", "k", "--yes", "--json")
    deleted = await cli.run("jobs", "delete", "shop", "--queue", "bulk", "--state", "scheduled", "--yes")

    assert (0, "moved 1 job to queue slow\n") == (moved.code, moved.out)
    assert (0, "", "jobqueue: no such jobs, nothing to do\n") == (nobody.code, nobody.out, nobody.err)
    assert [{"id": keyed, "change": "done"}] == json.loads(by_key.out)["jobs"]
    assert (0, "deleted 1 job\n") == (deleted.code, deleted.out)
    assert {"scheduled": 1, "cancelled": 1} == shop.states()


async def test_refusals_are_told_job_by_job(cli: CommandLine, shop: Shop) -> None:
    """S2-44: a job that has ended or is not there is one line with the reason; the others are done; the exit code is
    1."""
    ended, waiting = later(shop), later(shop)
    await cli.run("jobs", "cancel", ended, "shop")

    answer = await cli.run("jobs", "cancel", ended, waiting, UNKNOWN, "shop")

    assert 1 == answer.code
    assert "cancelled 1 job, 1 had ended, 1 did not exist\n" == answer.out
    assert f"jobqueue: {ended}: it has ended\n" in answer.err
    assert f"jobqueue: {UNKNOWN}: there is no such job" in answer.err
    assert "471147114711" not in answer.out + answer.err


async def test_without_a_terminal_many_need_yes(cli: CommandLine, shop: Shop) -> None:
    """S4-99: what would ask is refused without a terminal, with the way out; nothing has changed. So does --dry-run."""
    id = later(shop), later(shop)
    for words in (
        ("cancel", "--queue", "mail"),
        ("delete", id[0]),
        ("move", "--queue", "mail", "--to", "x"),
        ("reschedule", "--queue", "mail", "--in", "1d"),
    ):
        refused = await cli.run("jobs", *words, "--dsn", shop.dsn)
        assert (2, "") == (refused.code, refused.out)
        assert "give --yes, or --dry-run" in refused.err
        dry = await cli.run("jobs", *words, "--dsn", shop.dsn, "--dry-run")
        assert 0 == dry.code
        assert dry.out.startswith("would ")
    assert {"scheduled": 2} == shop.states()
    assert "mail" == (await shown(cli, shop, id[0]))["queue"]


async def test_a_terminal_is_asked(cli: CommandLine, shop: Shop) -> None:
    """S2-08: the question says what would be done; no changes nothing, yes does it."""
    later(shop), later(shop)

    no, asked = await in_terminal(cli, shop, "n\n", "jobs", "cancel", "--queue", "mail")
    assert (1, {"scheduled": 2}) == (no, shop.states())
    assert "cancel 2 jobs? [y/N]" in asked
    yes, told = await in_terminal(cli, shop, "y\n", "jobs", "cancel", "--queue", "mail")
    assert (0, {"cancelled": 2}) == (yes, shop.states())
    assert "cancelled 2 jobs" in told


@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
async def test_a_question_can_be_left(cli: CommandLine, shop: Shop, key: str) -> None:
    """S4-99: Ctrl-C or Ctrl-D at the question does nothing, says so in one line, and exits with 130."""
    later(shop), later(shop)

    code, text = await in_terminal(cli, shop, key, "jobs", "delete", "--queue", "mail")

    assert (130, {"scheduled": 2}) == (code, shop.states())
    question, told, *rest = [line for line in text.split("\n") if line]
    assert "delete 2 jobs for good? [y/N]" in question
    assert ("jobqueue: interrupted, nothing was done", []) == (told, rest)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("cancel",), "which jobs? Give ids, or a filter"),
        (("cancel", UNKNOWN, "--queue", "mail"), "not both"),
        (("cancel", "--key", "k"), "--key: names one job of a task"),
        (("cancel", UNKNOWN, "--no-bundle"), "not both"),
        (("cancel", "--bundle", UNKNOWN, "--no-bundle"), "--bundle or --no-bundle"),
        (("cancel", "--task", "t", "--key", "k", "--bundle", UNKNOWN), "--key: names one job of a task"),
        (("reschedule", UNKNOWN), "either --in or --at"),
        (("reschedule", UNKNOWN, "--in", "soon"), "--in: must be a length of time"),
        (("reschedule", UNKNOWN, "--at", "2026-03-01T12:00"), "--at: needs a zone"),
        (("move", UNKNOWN, "--to", "*"), "--to: '*' means all queues"),
        (("move", UNKNOWN, "--to", "x" * 101), "--to: must have 1 to 100 characters"),
        (("cancel", "--task", "t", "--key", "\udcff"), "--key: must have printable characters only"),
        (("retry", "--origin", "a\nb"), "--origin: must have printable characters only"),
        (("delete", "--queue", ""), "--queue: must have 1 to 100 characters"),
    ],
)
async def test_wrong_words_are_usage(cli: CommandLine, words: tuple[str, ...], told: str) -> None:
    """S4-58, S4-98: one line that names the option, before any database is looked for."""
    answer = await cli.run("jobs", *words)

    assert (2, 1) == (answer.code, len(answer.err.splitlines()))
    assert told in answer.err


async def test_a_running_job_is_asked_and_waited_for(cli: CommandLine, shop: Shop) -> None:
    """S2-09, S4-99: a running job is asked to end, and `wait` tells its end by the exit code."""
    id = shop.defer("wait", '{"seconds": 471147114711}', "mail")
    worker = cli.start("worker", "shop")
    await worker.says("waiting")

    in_vain = await cli.run("jobs", "wait", id, "shop", "--timeout", "0.2")
    busy = await cli.run("jobs", "delete", id, "shop", "--yes")
    cancelled = await cli.run("jobs", "cancel", id, "shop")
    ended = await cli.run("jobs", "wait", id, "shop", "--timeout", f"{PATIENCE:.0f}s")
    worker.signal(15)

    assert (124, "") == (in_vain.code, in_vain.out)
    assert (1, f"jobqueue: {id}: it runs, or waits for another job; cancel it first\n") == (busy.code, busy.err)
    assert (0, "asked 1 running job to end\n") == (cancelled.code, cancelled.out)
    assert (1, "cancelled (requested)\n") == (ended.code, ended.out)
    assert 0 == await worker.ends()


async def test_wait_shows_a_result_on_demand(cli: CommandLine, shop: Shop) -> None:
    """S2-01: 0 for a completed job, its result only with --payload; 1 for a dead one or none."""
    good, bad = shop.defer("note", '{"n": 4711}'), shop.defer("fail", '{"text": "no"}', "bulk")
    await cli.run("worker", "shop", "--burst")

    plain, payload = (
        await cli.run("jobs", "wait", good, "shop"),
        await cli.run("jobs", "wait", good, "shop", "--payload"),
    )
    dead, unknown = await cli.run("jobs", "wait", bad, "shop"), await cli.run("jobs", "wait", UNKNOWN, "shop")

    assert ((0, "completed\n"), (0, "completed\n4711\n")) == ((plain.code, plain.out), (payload.code, payload.out))
    assert (1, "dead (fatal)\n") == (dead.code, dead.out)
    assert (1, "") == (unknown.code, unknown.out)
