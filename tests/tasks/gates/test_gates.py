"""The gates of a job: of its task's limits, its queue's, and the fair order; and limits that contradict each other."""

from itertools import permutations
from typing import Any

import pytest

from jobqueue.app import App
from jobqueue.base.errors import DuplicateTask, InvalidOption, InvalidPayload, LimitConflict
from jobqueue.base.flows.limit import Limit, Rate
from jobqueue.tasks.router import Router, TaskHome
from tests.tasks.recording import Recorder, open_home

RATE = Rate(100, per=60)


def send(tenant: str | None) -> None: ...
def resend(tenant: str | None) -> None: ...


def null() -> App:
    """An app whose jobs go nowhere."""
    return App.null()


def test_gates_stand_in_one_order_however_they_are_written() -> None:
    """Keyed ones, shared ones, the rate, the fair order; by name among their like, so that no two tasks differ."""
    limits = [
        Limit(3, key="tenant", name="b"), Limit(3, name="c"), Limit(3, name="a"), Limit(5, rate=RATE, name="0")
    ]  # fmt: skip
    for written in permutations(limits):
        task = open_home(Recorder()).task(limit=written, fair="tenant")(send)
        assert ("b\nacme", "a", "c", "0", "~fair:default\nacme") == task.job("acme").gates
        assert ("a", "c", "0") == task.job(None).gates


def test_a_strict_order_comes_before_all_else() -> None:
    """A job waits for other places in its line, and not before it: those that do not wait would pass it there."""
    limits = [Limit(3, key="tenant", name="a"), Limit(5, name="b"), Limit(1, ordered=True, name="line")]
    for written in permutations(limits):
        assert ("line", "a\nacme", "b") == open_home(Recorder()).task(limit=written)(send).job("acme").gates


def test_a_limit_is_called_as_its_task_or_by_its_name() -> None:
    """Without a name each task has its own, by the name of the task; a named one is shared by all that use it."""
    home, own, shared = open_home(Recorder(), prefix="mail."), Limit(2), Limit(3, name="smtp")
    one, two = home.task(limit=[own, shared])(send), home.task(limit=[own, shared])(resend)
    assert [("mail.send", "smtp"), ("mail.resend", "smtp")] == [one.job("x").gates, two.job("x").gates]


def test_a_task_without_limits_has_no_gates() -> None:
    """Nothing is looked at where nothing is said; an empty list is none either."""
    tasks = [TaskHome().task(send), TaskHome().task(limit=[])(send)]
    assert [None, None] == [task.gates for task in tasks]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"limit": 5}, "limit: must be Limit"),
        ({"limit": [Limit(1), "x"]}, "limit: must be Limit"),
        ({"limit": [Limit(1, name=str(n)) for n in range(5)]}, "limit: a task has at most 4 limits, not 5"),
        ({"limit": [Limit(rate=RATE, name="a"), Limit(1, rate=RATE, name="b")]}, "limit: one limit .* has a rate"),
        ({"limit": [Limit(1), Limit(2)]}, "limit: two limits of one task are called 'send'"),
        ({"limit": Limit(1), "name": "~x"}, "limit: .* must not begin with '~'"),
        ({"limit": Limit(1), "name": "fair:x"}, "limit: .* 'fair:' or"),
        ({"fair": 5}, "fair: must be a path"),
    ],
)
def test_limits_that_make_no_sense_are_refused_at_the_decorator(said: dict[str, Any], fault: str) -> None:
    """What is wrong among the limits of a task is said where they are written, and nothing is registered."""
    home = TaskHome()
    with pytest.raises(InvalidOption, match=f"^{fault}"):
        home.task(**said)(send)
    assert [] == list(home.registry)


def test_a_router_has_limits_for_tasks_that_say_none() -> None:
    """As with its queue: the task's own come in their place, an empty list is none."""
    router = Router("mail.", "mail", limit=Limit(3, key="tenant"), fair="tenant")
    tasks = [
        router.task(send),
        router.task(limit=Limit(5), name="b")(send),
        router.task(limit=[], fair="tenant", name="c")(send),
    ]
    null().include(router)
    assert [
        ("mail.send\nx", "~fair:mail\nx"), ("b", "~fair:mail\nx"), ("~fair:mail\nx",)
    ] == [task.job("x").gates for task in tasks]  # fmt: skip


def test_a_fair_order_is_that_of_the_queue_the_job_goes_to() -> None:
    """Another queue at the defer means the turns of that queue; a job without a key has no turn."""
    task = open_home(Recorder()).task(fair=lambda tenant: tenant)(send)
    assert ("~fair:bulk\nx",) == task.options(queue="bulk").job("x").gates
    assert () == task.job(None).gates


def test_a_queue_has_a_limit_for_all_its_jobs() -> None:
    """Its gate stands among those of the task, also for tasks of routers, and by the queue of the very job."""
    app, router = null(), Router()
    one, two = app.task(limit=Limit(2, key="tenant"))(send), router.task(queue="mail")(resend)
    app.include(router)
    app.limit_queue("mail", Limit(20))
    assert ("send\nx",) == one.job("x").gates
    assert ("send\nx", "queue/mail") == one.options(queue="mail").job("x").gates
    assert [("queue/mail",), ()] == [two.job("x").gates, two.options(queue="other").job("x").gates]
    app.limit_queue("mail", Limit(rate=RATE, name="slow"))
    assert ("~slow",) == two.job("x").gates


def test_a_limit_of_task_and_queue_is_passed_once() -> None:
    """One that both have is one gate: two places would be held for one job."""
    app, smtp = null(), Limit(5, rate=RATE, name="smtp")
    app.limit_queue("mail", smtp)
    assert ("smtp",) == app.task(queue="mail", limit=smtp)(send).job("x").gates


@pytest.mark.parametrize(("limit", "option"), [(Limit(1, key="tenant"), "key"), (5, "limit"), (None, "limit")])
def test_what_no_queue_can_have_is_refused(limit: Any, option: str) -> None:
    """A queue's tasks have different arguments, so its limit has no key."""
    with pytest.raises(InvalidOption) as caught:
        null().limit_queue("mail", limit)
    assert option == caught.value.option
    with pytest.raises(InvalidOption, match=r"queue: '\*' means all queues"):
        null().limit_queue("*", Limit(1))


def test_a_long_name_of_a_queue_needs_a_name_for_its_limit() -> None:
    """What would be called by more than 100 characters is refused where it is said."""
    with pytest.raises(InvalidOption, match="100 characters"):
        null().limit_queue("q" * 100, Limit(1))


def test_a_job_has_one_rate() -> None:
    """Task and queue with a rate each are refused as soon as they meet, in whichever order they come."""
    app = null()
    app.limit_queue("mail", Limit(rate=RATE))
    with pytest.raises(InvalidOption, match="task 'send' and queue 'mail' both have a rate"):
        app.task(queue="mail", limit=Limit(rate=RATE))(send)
    task = app.task(limit=Limit(rate=RATE))(send)
    with pytest.raises(InvalidOption, match="both have a rate"):
        task.options(queue="mail").job("x")
    with pytest.raises(InvalidOption, match="both have a rate"):
        app.limit_queue("default", Limit(rate=RATE))
    assert ("~send",) == task.job("x").gates


@pytest.mark.parametrize(
    "other",
    [
        Limit(2, name="smtp"), Limit(1, name="smtp", ordered=True), Limit(1, name="smtp", key="tenant"),
        Limit(1, name="smtp", rate=RATE),
    ],
)  # fmt: skip
def test_one_name_has_one_rule(other: Limit) -> None:
    """Tasks and queues of an app that use one name of a limit say the same of it, or the second is refused."""
    app, smtp = null(), Limit(1, name="smtp")
    app.task(limit=smtp)(send)
    with pytest.raises(LimitConflict, match="'smtp' of task 'send' and that of task 'resend'"):
        app.task(limit=other)(resend)
    with pytest.raises(LimitConflict, match="task 'send' and that of task 'resend'"):
        router = Router()
        router.task(limit=other)(resend)
        app.include(router)
    assert ["send"] == [task.name for task in app.registry]
    if other.key is None:
        with pytest.raises(LimitConflict, match="queue 'mail'"):
            app.limit_queue("mail", other)
        assert {"smtp": smtp} == {name: each.limit for name, each in app.registry.limits.items()}


def test_the_same_said_twice_is_no_conflict() -> None:
    """Equal limits share their name, whatever path leads to the key in each; another app is another matter."""
    app = null()
    app.task(limit=Limit(1, rate=Rate(1, 60), name="a", key="tenant"))(send)
    app.task(limit=Limit(1, rate=Rate(1, 60.0), name="a", key=str))(resend)
    null().task(limit=Limit(2, name="a"))(resend)
    assert ["a"] == list(app.registry.limits)


def test_a_cell_of_a_notebook_may_change_its_limit() -> None:
    """The same function, declared anew with another limit, takes its own place."""
    app = null()
    for number in (1, 2):
        app.task(limit=Limit(number, name="a"))(send)
    assert 2 == app.registry.limits["a"].limit.concurrency
    with pytest.raises(DuplicateTask):
        app.task(name="send", limit=Limit(2, name="a"))(resend)


def test_a_worker_asks_for_the_gates_of_now() -> None:
    """By name, queue and arguments as they are stored; of an unknown task it learns nothing."""
    bare, app = null(), null()
    app.task(aliases=["old"], limit=Limit(3, key="tenant"))(send)
    assert [False, True] == [each.registry.has_limits for each in (bare, app)]
    now: Any = app.registry.gates_now
    assert ("send\nx",) == now("old", "mail", '{"tenant":"x"}')
    app.limit_queue("mail", Limit(20))
    assert ("send\nx", "queue/mail") == now("send", "mail", '{"tenant":"x"}')
    assert None is now("unknown", "mail", "{}")
    with pytest.raises(InvalidPayload, match="is missing"):
        now("send", "mail", "{}")


async def test_without_a_database_keys_are_checked_all_the_same() -> None:
    """`task.run` and an app that drops its jobs know no limits, but a key that is none is refused."""

    async def echo(event: Any) -> Any:
        return event

    task: Any = null().task(limit=Limit(1, key="event.tenant"))(echo)
    assert {"tenant": "x"} == await task.run({"tenant": "x"})
    await task.defer({"tenant": "x"})
    for call in (task.run, task.defer):
        with pytest.raises(InvalidPayload, match="is missing"):
            await call({})
