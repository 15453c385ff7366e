"""A graph is drawn so that a reader sees what holds it up, however many jobs it has."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import pytest

from jobqueue.base.flows.bundle import Bundle
from jobqueue.base.flows.graph import GraphJob, Unlinked
from jobqueue.base.job import JobState
from jobqueue.bundles.graph import BundleGraph

COMPLETED, RUNNING, BLOCKED, DEAD, CANCELLED = (
    JobState.COMPLETED, JobState.RUNNING, JobState.BLOCKED, JobState.DEAD, JobState.CANCELLED,
)  # fmt: skip
NOW = datetime(2030, 1, 1, tzinfo=UTC)
BUNDLE = Bundle(UUID(int=1), "import", None, None, False, 3, 0, 0, 0, 0, None, NOW, None)
NODE = re.compile(r'n\d+(?:\["[^"]*"\]|\[\["[^"]*"\]\]|\(\["[^"]*"\]\)):::[a-z]+')
LINK = re.compile(r"n\d+ --> n\d+")

numbers = count(0xA0)


def job(task: str, state: JobState | None = COMPLETED, *after: GraphJob, **said: Any) -> GraphJob:
    return GraphJob(UUID(int=next(numbers)), task, state, tuple(one.id for one in after), **said)


def doomed(task: str, *after: GraphJob) -> GraphJob:
    return job(task, CANCELLED, *after, reason="dependency")


def id_of(job: GraphJob) -> str:
    return f"…{str(job.id)[-8:]}"


def drawn(*jobs: GraphJob, unlinked: Sequence[Unlinked] = ()) -> BundleGraph:
    return BundleGraph(BUNDLE, jobs, unlinked)


def broken() -> tuple[list[GraphJob], BundleGraph]:
    """One that a dead job holds up, with others beside it and a callback."""
    fetch = job("fetch")
    left, right = job("render", COMPLETED, fetch), job("render", DEAD, fetch, error="OSError", reason="attempts")
    publish = doomed("publish", left, right)
    beside = [
        Unlinked("load", DEAD, 1, False),
        Unlinked("load", COMPLETED, 12, False),
        Unlinked("alarm", RUNNING, 1, True),
    ]
    jobs = [fetch, left, right, publish]
    return jobs, drawn(*reversed(jobs), unlinked=beside)


def fan(pages: int, state: Callable[[int], JobState]) -> BundleGraph:
    """One job, many after it, and one after those."""
    split = job("split")
    middle = [job("page", state(number), split) for number in range(pages)]
    return drawn(split, *middle, job("join", BLOCKED, *middle))


def test_a_small_graph_shows_each_job_and_what_holds_it_up() -> None:
    """First what is dead and what that cancelled; then each job with its step, its state and what it comes after."""
    jobs, graph = broken()
    fetch, left, right, publish = map(id_of, jobs)
    expected = f"""\
{right} render is dead (OSError): 1 job after it is cancelled

step  job        task     state
   1  {fetch}  fetch    completed
   2  {left}  render   completed               after {fetch}
   2  {right}  render   dead (OSError)          after {fetch}
   3  {publish}  publish  cancelled (dependency)  after {right}, {left}
      13 jobs    load     1 dead, 12 completed
 end  1 job      alarm    1 running"""
    assert expected == graph.text
    assert expected == str(graph)
    assert jobs == list(graph.jobs)


def test_many_jobs_alike_are_one_line() -> None:
    """10 000 pages between two jobs take a line, with the number of each state, the worst first."""
    graph = fan(9_998, lambda number: DEAD if number == 7 else RUNNING if number < 20 else COMPLETED)
    split, dead, join = (id_of(graph.jobs[place]) for place in (0, 8, -1))
    expected = f"""\
{dead} page is dead

step  job        task   state
   1  {split}  split  completed
   2  9998 jobs  page   1 dead, 19 running, 9978 completed  after split
   3  {join}  join   blocked                             after page"""
    assert expected == graph.text


def test_a_long_chain_is_one_line() -> None:
    """Jobs of one task that come one after another are told together, by their first and last step."""
    chain = [job("step")]
    for number in range(1, 500):
        link = job("step", COMPLETED, chain[-1]) if number < 100 else doomed("step", chain[-1])
        chain.append(job("step", DEAD, chain[-1]) if number == 100 else link)
    text = drawn(*chain).text
    assert "step is dead: 399 jobs after it are cancelled" in text
    assert "2-500  499 jobs" in text
    assert "1 dead, 399 cancelled (dependency), 99 completed" in text
    assert len(text.splitlines()) < 8


@pytest.mark.parametrize("size", [3, 100])
@pytest.mark.parametrize("width", [80, 132])
def test_no_line_is_too_long(size: int, width: int) -> None:
    """Long names are cut, long lists go on below, and nothing that plain SQL has written steers a terminal."""
    ugly = "\x1b[31m" + "name\n" * 19
    first = [job(ugly + str(n), state, reason=ugly, error=ugly) for n, state in enumerate([*JobState, None] * size)]
    text = drawn(*first, *(job("join", BLOCKED, *first) for _ in range(size)), doomed("x", first[0], *first[5:9])).draw(
        width
    )
    assert [] == [line for line in text.splitlines() if len(line) > width or not line.isprintable()]
    assert " more" in text


def test_what_is_lost_or_outside_is_drawn() -> None:
    """A job of another bundle is a place like others, and one of which nothing is kept is gone."""
    graph = drawn(gone := job("", None, outside=True), job("next", BLOCKED, gone))
    assert "unknown  gone" in graph.text
    assert f'n0[["unknown<br/>{id_of(gone)}<br/>gone"]]:::gone' in graph.mermaid


def test_a_circle_ends() -> None:
    """What only plain SQL can write, jobs that come after each other, is drawn as well, behind the others."""
    one, other = UUID(int=2), UUID(int=3)
    start = job("start")
    circle = [GraphJob(one, "a", BLOCKED, (other, start.id)), GraphJob(other, "b", BLOCKED, (one,))]
    graph = drawn(*circle, start, job("c", BLOCKED, circle[0]))
    assert ["start", "a", "b", "c"] == [each.task for each in graph.jobs]
    assert ["1", "2", "2", "2"] == [line.split()[0] for line in graph.text.splitlines()[1:]]


def test_states_are_painted() -> None:
    """Colours stand around the words of a state alone, and move no column."""
    _, graph = broken()
    coloured = graph.draw(paint=lambda state, text: f"<{state}|{text}>")
    assert {"<dead|dead (OSError)>", "<dead|1 dead>", "<completed|12 completed>"} <= set(
        re.findall("<[^>]*>", coloured)
    )
    assert graph.text == re.sub(r"<\w+\|([^>]*)>", r"\1", coloured)


def test_mermaid_shows_the_same() -> None:
    """Each job is a node in the colour of its state, a link leads to what comes after it, and a callback is round."""
    jobs, graph = broken()
    fetch, left, right, publish = map(id_of, jobs)
    lines = graph.mermaid.splitlines()
    styles = [line for line in lines if line.startswith("  classDef ")]
    assert [
        "flowchart LR",
        f'  n0["fetch<br/>{fetch}<br/>completed"]:::completed',
        f'  n1["render<br/>{left}<br/>completed"]:::completed',
        f'  n2["render<br/>{right}<br/>dead (OSError)"]:::dead',
        f'  n3["publish<br/>{publish}<br/>cancelled (dependency)"]:::cancelled',
        '  n4["load<br/>13 jobs<br/>1 dead<br/>12 completed"]:::dead',
        '  n5(["alarm<br/>1 job<br/>1 running"]):::running',
        "  n0 --> n1", "  n0 --> n2", "  n1 --> n3", "  n2 --> n3",
    ] == lines[: -len(styles)]  # fmt: skip
    assert {"completed", "running", "dead", "cancelled"} == {line.split()[1] for line in styles}
    assert all("fill:" in line and ",color:" in line for line in styles)


@pytest.mark.parametrize(
    "task", ['"];click n0 evil', "a#b", "1. list", "- list", "`code`", "<script>", "end", "\n%%", "ä|b"]
)
def test_no_name_is_syntax(task: str) -> None:
    """Whatever a task is called, the chart has its nodes and links and nothing else."""
    first = job(task)
    _, *lines = drawn(first, job(task, BLOCKED, first, reason=task)).mermaid.splitlines()
    nodes, rest = lines[:2], [line for line in lines[2:] if not line.startswith("  classDef ")]
    assert all(NODE.fullmatch(line.strip()) for line in nodes), nodes
    assert ["  n0 --> n1"] == rest
    assert not re.search(r'\["(\d+[.)]|[-+*]) ', nodes[0])


def test_mermaid_stays_within_its_limits() -> None:
    """Mermaid draws no chart of more than 500 links: those alike become one node, if jobs or their links are many."""
    wide = fan(9_998, lambda _: COMPLETED).mermaid.splitlines()
    sources = [job(f"source {number}") for number in range(25)]
    dense = drawn(*sources, *(job("sink", BLOCKED, *sources) for _ in range(25))).mermaid.splitlines()
    assert 3 == sum(bool(NODE.fullmatch(line.strip())) for line in wide)
    assert 26 == sum(bool(NODE.fullmatch(line.strip())) for line in dense)
    assert 25 == sum(bool(LINK.fullmatch(line.strip())) for line in dense)


def test_nothing_is_drawn_of_nothing() -> None:
    """A bundle without jobs has a text and a chart as well."""
    assert ("no jobs", 'flowchart LR\n  n0["no jobs"]') == (drawn().text, drawn().mermaid)
