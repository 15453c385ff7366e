"""`bundles graph`: the picture of a bundle whose jobs come after others."""

import json

from jobqueue import JobState
from tests.cli.conftest import Shop
from tests.support.jobs.linked import put_bundle, put_job, put_node
from tests.support.jobs.store import connect
from tests.support.programs.processes import CommandLine
from tests.support.programs.terminal import terminal

RED = "\x1b[31m"


async def stored(shop: Shop) -> tuple[str, list[str]]:
    """A bundle that a dead job holds up; its id, and the ids of its jobs."""
    async with connect(shop.dsn) as connection:
        bundle = await put_bundle(connection, added=3)
        fetch = await put_job(connection, "fetch", JobState.COMPLETED, bundle)
        render = await put_job(connection, "render", JobState.DEAD, bundle, reason="attempts", error="OSError")
        publish = await put_job(connection, "publish\x1b[2J", JobState.CANCELLED, bundle, reason="dependency")
        await put_node(connection, bundle, fetch, "fetch")
        await put_node(connection, bundle, render, "render", [fetch])
        await put_node(connection, bundle, publish, "publish\x1b[2J", [render])
    return str(bundle), [str(id) for id in (fetch, render, publish)]


async def test_a_graph_is_drawn_as_text_chart_and_document(cli: CommandLine, shop: Shop) -> None:
    """By the bundle's id or a part of it; what is dead and what that cancelled stands first."""
    bundle, ids = await stored(shop)
    fetch, render, publish = (id[-8:] for id in ids)
    text = await cli.run("bundles", "graph", bundle[-8:], "shop")
    chart = await cli.run("bundles", "graph", bundle, "--dsn", shop.dsn, "--mermaid")
    document = json.loads((await cli.run("bundles", "graph", "shop", bundle, "--json")).out)
    both = await cli.run("bundles", "graph", bundle, "shop", "--json", "--mermaid")
    unknown = await cli.run("bundles", "graph", "00000000", "shop")

    assert (
        f"""\
bundle {bundle}  running
import: 3 pending

…{render} render is dead (OSError): 1 job after it is cancelled

step  job        task            state
   1  …{fetch}  fetch           completed
   2  …{render}  render          dead (OSError)          after …{fetch}
   3  …{publish}  publish\\x1b[2J  cancelled (dependency)  after …{render}
"""
        == text.out
    )
    assert chart.out.startswith("flowchart LR\n")
    assert "\n  n0 --> n1\n  n1 --> n2\n" in chart.out
    assert [(ids[1], "render", "dead", [ids[0]], "OSError")] == [
        tuple(job[name] for name in ("id", "task", "state", "after", "error")) for job in document["jobs"][1:2]
    ]
    assert (bundle, []) == (document["id"], document["unlinked"])
    assert (2, "jobqueue: --mermaid and --json are two formats: give one\n") == (both.code, both.err)
    assert 1 == unknown.code


async def test_a_person_sees_colours(cli: CommandLine, shop: Shop) -> None:
    """In a terminal states have their colours, what failed first of all, and names from plain SQL steer nothing."""
    bundle, _ = await stored(shop)
    with terminal(cli.folder, "bundles", "graph", bundle, "--dsn", shop.dsn, size=(100, 24)) as running:
        assert 0 == await running.ends(), running.text
        shown = running.raw
    with terminal(cli.folder, "bundles", "graph", bundle, "--dsn", shop.dsn, NO_COLOR="1") as running:
        assert 0 == await running.ends(), running.text
        plain = running.raw

    assert f"{RED}dead (OSError)\x1b[0m" in shown
    assert "render is dead (OSError): 1 job after it is cancelled\x1b[0m" in shown
    assert "\x1b[2J" not in shown
    assert "\x1b" not in plain
