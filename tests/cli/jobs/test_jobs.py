"""`jobs`: list, show, counts, in a terminal, as plain text and as JSON."""

import json
import re
from uuid import UUID

import pytest

from tests.cli.conftest import Shop
from tests.support.programs.processes import CommandLine
from tests.support.programs.terminal import terminal

UNKNOWN = "01a20466-0396-7560-92ef-adfe1f5cacd8"


async def run_some(cli: CommandLine, shop: Shop) -> dict[str, str]:
    """One job of each kind: completed, dead, ready, scheduled."""
    ids = {
        "completed": shop.defer("note", '{"n": 471147114711}', origin="web"),
        "dead": shop.defer("fail", '{"text": "no\\nway"}', "bulk"),
    }
    assert 0 == (await cli.run("worker", "shop", "--burst")).code
    ids["ready"] = shop.defer("wait", '{"seconds": 1}', "mail", priority=3)
    ids["scheduled"] = shop.defer("note", '{"n": 2}', delay=3600)
    return ids


async def test_the_list(cli: CommandLine, shop: Shop) -> None:
    """S4-98: newest first, as plain text without a terminal: one line a job, its id whole; options leave what they
    name."""
    ids = await run_some(cli, shop)

    answer = await cli.run("jobs", "list", "shop")

    heading, *rows = [re.split("  +", line) for line in answer.out.splitlines()]
    assert ["id", "state", "task", "queue", "try", "when", "why"] == heading
    assert [ids[state] for state in ("scheduled", "ready", "dead", "completed")] == [row[0] for row in rows]
    assert ["scheduled", "note", "default", "0"] == rows[0][1:5]
    assert re.fullmatch(r"in (60|59) min", rows[0][5])
    assert 6 == len(rows[0])
    assert ["dead", "fail", "bulk", "1"] == rows[2][1:5]
    assert rows[2][6].startswith("fatal: Fatal: cannot: ")
    assert re.fullmatch(r"now|\d+ s ago", rows[2][5])
    for options, found in (
        (("--state", "dead", "--state", "ready"), ["ready", "dead"]),
        (("--queue", "bulk"), ["dead"]),
        (("--task", "note", "--limit", "1"), ["scheduled"]),
        (("--origin", "web"), ["completed"]),
        (("--after", ids["dead"]), ["completed"]),
        (("--queue", "nobody"), []),
    ):
        answer = await cli.run("jobs", "list", "--dsn", shop.dsn, "--json", *options)
        assert [ids[state] for state in found] == [job["id"] for job in json.loads(answer.out)]


async def test_json_has_all_but_the_payload(cli: CommandLine, shop: Shop) -> None:
    """S4-98, S3-20: the document of a job has every field; arguments, result and error data only with --payload."""
    ids = await run_some(cli, shop)

    plain = json.loads((await cli.run("jobs", "list", "shop", "--json", "--state", "dead", "--state", "completed")).out)
    whole = json.loads((await cli.run("jobs", "show", "shop", ids["completed"], "--json", "--payload")).out)
    dead = json.loads((await cli.run("jobs", "show", "--dsn", shop.dsn, ids["dead"], "--json", "--payload")).out)

    assert [ids["dead"], ids["completed"]] == [job["id"] for job in plain]
    assert {"attempt", "created_at", "due_at", "finished_at", "meta", "origin", "queue", "reason"} <= set(plain[0])
    assert not {"args", "result"} & set(plain[0])
    assert "471147114711" not in json.dumps(plain)
    assert "cannot: no\nway" == plain[0]["errors"][0]["message"]
    assert ({"n": 471147114711}, 471147114711) == (whole["args"], whole["result"])
    assert {"card": "471147114711"} == dead["errors"][0]["data"]


async def test_a_job_is_shown_with_its_errors(cli: CommandLine, shop: Shop) -> None:
    """S4-98, S3-20: `show` names class and message of the errors and the last traceback; its arguments only with
    --payload."""
    ids = await run_some(cli, shop)

    shown = await cli.run("jobs", "show", "shop", ids["dead"])
    other_order = await cli.run("jobs", "show", ids["dead"], "shop:app", "--payload")

    lines = shown.out.splitlines()
    assert f"job {ids['dead']}  dead (fatal)" == lines[0]
    attempt = next(number for number, line in enumerate(lines) if re.match(r"  attempt 1, .* UTC \(.*\)$", line))
    assert lines[attempt + 1].endswith(r"Fatal: cannot: no\nway")
    assert re.match(r"    worker \S+$", lines[attempt + 2])
    assert "last traceback" in lines
    assert "471147114711" not in shown.out
    assert not any(line.startswith("  args") for line in lines)
    assert any(re.match(r'  args +\{"text": ?"no\\nway"\}', line) for line in other_order.out.splitlines())


async def test_counts_by_queue_and_state(cli: CommandLine, shop: Shop) -> None:
    """S4-97: `counts` has a line a queue and the sums, and says how long the oldest ready job has waited."""
    await run_some(cli, shop)

    plain = await cli.run("jobs", "counts", "shop")
    document = json.loads((await cli.run("jobs", "counts", "shop", "--json")).out)

    rows = {line.split()[0]: line.split()[1:] for line in plain.out.splitlines()}
    assert ["scheduled", "ready", "running", "completed", "cancelled", "dead", "oldest", "ready"] == rows["queue"]
    assert ["1", "0", "0", "1", "0", "0"] == rows["default"]
    assert ["0", "1", "0", "0", "0", "0"] == rows["mail"][:6]
    assert ["1", "1", "0", "1", "0", "1"] == rows["all"][:6]
    assert {"bulk": {"dead": 1}, "default": {"completed": 1, "scheduled": 1}, "mail": {"ready": 1}} == document[
        "queues"
    ]
    assert 1 == document["total"]["dead"]
    assert ["mail"] == list(document["oldest_ready"])


async def test_what_is_not_there_is_said(cli: CommandLine, shop: Shop) -> None:
    """S4-98: no jobs is no error, an unknown id is one, something else than an id is wrong usage: one line each."""
    empty = await cli.run("jobs", "list", "shop")
    counts = await cli.run("jobs", "counts", "shop")
    unknown = await cli.run("jobs", "show", "shop", UNKNOWN)
    wrong = await cli.run("jobs", "show", "shop", "the-first-one")

    assert (0, "", "jobqueue: no such jobs\n") == (empty.code, empty.out, empty.err)
    assert (0, "", "jobqueue: no jobs\n") == (counts.code, counts.out, counts.err)
    assert (1, f"jobqueue: no job {UNKNOWN}") == (unknown.code, unknown.err.partition(":  ")[0][: len(UNKNOWN) + 17])
    assert 2 == wrong.code
    assert "the id of one job" in wrong.err


async def test_without_app_and_dsn_the_way_out_is_named(cli: CommandLine) -> None:
    """S4-98: a verb that does not know its database says the three ways to name one."""
    answer = await cli.run("jobs", "list")

    assert 2 == answer.code
    assert "Name an App (shop:app), or give --dsn, or set JOBQUEUE_DSN" in answer.err


@pytest.mark.parametrize("columns", [80, 200])
async def test_a_table_fits_a_terminal(columns: int, cli: CommandLine, shop: Shop) -> None:
    """S4-98: in a terminal no line is longer than it and no word is broken: what does not fit stands below its job."""
    task, queue = "a_task_with_a_name_that_is_long_enough", "a_queue_with_a_long_name"
    id = shop.defer(task, "{}", queue, delay=3600)
    shop.defer("note\x1b[31m", "{}", max_attempts=1)
    with terminal(cli.folder, "jobs", "list", size=(columns, 50), JOBQUEUE_DSN=shop.dsn) as running:
        assert 0 == await running.ends(), running.text
        lines = running.text.splitlines()

    assert max(map(len, lines)) <= columns
    (first,) = [place for place, line in enumerate(lines) if line.startswith(id)]
    assert "  scheduled  " in lines[first]
    assert [task, queue] == (lines[first].split()[2:4] if columns == 200 else lines[first + 1].split())
    assert any(r"note\x1b[31m" in line for line in lines)
    assert UUID(id).version == 7


async def test_counts_fit_a_terminal(cli: CommandLine, shop: Shop) -> None:
    """S4-98: a queue whose name has no room beside its numbers has it above them."""
    shop.defer("note", "{}", "a_queue_with_a_long_name")
    shop.defer("note", "{}", "mail")
    with terminal(cli.folder, "jobs", "counts", size=(80, 50), JOBQUEUE_DSN=shop.dsn) as running:
        assert 0 == await running.ends(), running.text
        lines = running.text.splitlines()

    assert max(map(len, lines)) <= 80
    assert "1" in lines[lines.index("a_queue_with_a_long_name") + 1].split()
    assert any(line.split()[:3] == ["mail", "0", "1"] for line in lines)


async def test_a_name_that_none_can_have_is_usage(cli: CommandLine, shop: Shop) -> None:
    """S2-43: bytes that are no text, from a slip or a script: one line that names the option, and no word of the
    driver's."""
    for option in ("--queue", "--task", "--origin"):
        answer = await cli.run("jobs", "list", "shop", option, "\udcff")
        assert (2, "") == (answer.code, answer.out)
        assert (
            f"jobqueue: {option}: must have printable characters only: no NUL, line break or the like\n" == answer.err
        )


async def test_the_end_of_an_id_is_enough(cli: CommandLine, shop: Shop) -> None:
    """S4-97: an id as `top` shows it, dots and all, is taken by verbs that look and verbs that steer; a wrong one is
    one line."""
    ids = await run_some(cli, shop)
    shown = await cli.run("jobs", "show", "shop", f"…{ids['dead'][-8:]}", "--json")
    assert ids["dead"] == json.loads(shown.out)["id"]
    waited = await cli.run("jobs", "wait", ids["completed"][-12:], "--timeout", "0.001", "--dsn", shop.dsn)
    assert (0, "completed\n") == (waited.code, waited.out)
    ended = await cli.run("jobs", "cancel", ids["ready"][-8:], ids["scheduled"], "shop", "--json")
    assert {ids["ready"], ids["scheduled"]} == {job["id"] for job in json.loads(ended.out)["jobs"]}
    wrong = await cli.run("jobs", "cancel", UNKNOWN[-8:], "shop")
    assert 1 == wrong.code
    assert "none was found" in wrong.err


async def test_jobs_are_found_by_what_is_in_them(cli: CommandLine, shop: Shop) -> None:
    """By values in the arguments, error and text, alone or together, in a list and to steer; wrong words are usage."""
    ids = await run_some(cli, shop)
    cases = [
        (["--arg", "n=471147114711"], ["completed"]),
        (["--arg", "n=2", "--state", "scheduled"], ["scheduled"]),
        (["--error", "Fatal"], ["dead"]),
        (["--text", "NO\\NWAY", "--error", "Fatal"], ["dead"]),
        (["--arg", "n=2", "--arg", "m=3"], []),
    ]
    for words, states in cases:
        found = json.loads((await cli.run("jobs", "list", "shop", "--json", *words)).out)
        assert [ids[state] for state in states] == [job["id"] for job in found], words

    assert "would cancel 1 job\n" == (await cli.run("jobs", "cancel", "shop", "--arg", "n=2", "--dry-run")).out
    for words, told in [
        (["--arg", "n"], "--arg: give a path"),
        (["--arg", "a..b=1"], "is no path"),
        (["--text", ""], "empty"),
    ]:
        answer = await cli.run("jobs", "list", "shop", *words)
        assert 2 == answer.code
        assert told in answer.err


async def test_failures_are_grouped(cli: CommandLine, shop: Shop) -> None:
    """A line a group with its size, and the window; the fingerprint takes the group, for a list and to steer."""
    ids = await run_some(cli, shop)

    answer = await cli.run("jobs", "errors", "shop")
    document = json.loads((await cli.run("jobs", "errors", "shop", "--json")).out)

    (group,) = document["groups"]
    row = re.split("  +", answer.out.splitlines()[1].strip())
    assert ["1", group["fingerprint"]] == row[:2]
    assert re.fullmatch(r"fail Fatal at .+/shop\.py:\d+ fail", row[3])
    assert "among all 1 dead jobs, since" in answer.err
    assert (1, ids["dead"], True) == (group["count"], group["sample"], document["whole"])
    found = json.loads((await cli.run("jobs", "list", "shop", "--json", "--fingerprint", group["fingerprint"])).out)
    assert [ids["dead"]] == [job["id"] for job in found]
    retried = await cli.run("jobs", "retry", "shop", "--fingerprint", group["fingerprint"])
    assert "retried 1 job\n" == retried.out
    assert "no dead jobs" in (await cli.run("jobs", "errors", "shop", "--queue", "nobody")).err
