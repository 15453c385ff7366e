"""Prometheus' view of one worker, made anew for each scrape. There is no registry, so nothing of it is global."""

from collections.abc import Iterable, Mapping
from itertools import accumulate

from jobqueue.base.errors import ConfigurationError

try:
    from prometheus_client import Metric
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ModuleNotFoundError as missing:
    raise ConfigurationError(f'web: {missing.name} is not installed; pip install "jobqueue[web]"') from None

from jobqueue.base.flows.limit import FAIR
from jobqueue.base.job import UNFINISHED
from jobqueue.base.looking.history import BOUNDS
from jobqueue.base.version import VERSION
from jobqueue.web.depths import Depth, Flows
from jobqueue.worker.keeping.tally import OUTCOMES, Counts
from jobqueue.worker.snapshot import Snapshot

_LES = [*(str(bound) for bound in BOUNDS), "+Inf"]


def exposition(
    worker: Snapshot | None,
    tasks: Mapping[str, Counts],
    depths: Mapping[str, Depth] | None,
    flows: Flows,
    accept: str,
) -> tuple[bytes, str]:
    """The text of a scrape, and its content type, which depends on what is accepted.

    `worker` is None before it has started, `depths` and what is in `flows` while the database does not answer:
    those metrics are missing then.
    """
    encode, content_type = choose_encoder(accept)
    return encode(
        _Scrape([*_of_tasks(tasks), *_of_worker(worker), *_of_queues(depths), *_of_flows(flows)])
    ), content_type


class _Scrape(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_tasks(tasks: Mapping[str, Counts]) -> Iterable[Metric]:
    claimed = _counter("tasks_claimed", "Jobs that this worker took; always processed and in flight together.", "task")
    processed = _counter(
        "tasks_processed",
        f"Claims that came to their end, as {', '.join(OUTCOMES)}. A job that is retried counts each time.",
        "task",
        "outcome",
    )
    in_flight = _gauge(
        "tasks_in_flight",
        "Jobs that this worker holds: about to run, running, or being saved.",
        "task",
    )
    retries = _counter("retries", "Attempts that failed and will be made again.", "task")
    duration = HistogramMetricFamily(
        "jobqueue_task_duration_seconds", "How long handlers ran, whatever came of it.", labels=["task"]
    )
    for task, counts in sorted(tasks.items()):
        outcomes = counts.outcomes.copy()
        in_all = counts.claimed  # read after the outcomes: it is ahead of them
        claimed.add_metric([task], in_all)
        in_flight.add_metric([task], in_all - sum(outcomes.values()))
        retries.add_metric([task], outcomes["retried"])
        for outcome, number in outcomes.items():
            processed.add_metric([task, outcome], number)
        up_to = zip(_LES, accumulate(counts.buckets.copy()), strict=True)
        duration.add_metric([task], [(le, float(runs)) for le, runs in up_to], counts.seconds)
    return claimed, processed, in_flight, retries, duration


def _of_worker(worker: Snapshot | None) -> Iterable[Metric]:
    info = InfoMetricFamily("jobqueue_worker", "The worker that this page is about.")
    info.add_metric([], {"version": VERSION, "worker": str(worker.id) if worker else ""})
    yield info
    if worker is None:
        return
    yield _one(_counter("rescues", "Jobs taken back from workers that had died."), worker.rescued)
    yield _one(_counter("writes_refused", "Outcomes that came too late: another worker had the job."), worker.refused)
    yield _one(_counter("phases_recorded", "Phases, sleeps and waits of jobs whose end was recorded."), worker.recorded)
    yield _one(_counter("schedule_fired", "Jobs stored for planned times of schedules."), worker.fired)
    yield _one(_counter("schedule_missed", "Planned times of schedules that were left out."), worker.missed)
    yield _by_limit(
        _counter("limit_admitted", "Jobs that this worker let pass a limit, whoever runs them.", "limit"),
        {limit: jobs for limit, jobs in worker.admitted.items() if not limit.startswith(FAIR)},
    )
    yield _one(_gauge("handlers_stuck", "Handlers that were asked to end more than 5 s ago and go on."), worker.stuck)
    yield _one(_gauge("handlers_awaiting", "Handlers that wait for the end of other jobs, in a slot."), worker.awaiting)
    lag = max(worker.lag, worker.blocked)
    yield _one(_gauge("loop_lag_seconds", "By how much the event loop is late, or was when it last turned."), lag)


def _of_queues(depths: Mapping[str, Depth] | None) -> Iterable[Metric]:
    if depths is None:
        return
    depth = _gauge(
        "queue_depth",
        "Unfinished jobs of a queue in the database, whoever runs them.",
        "queue",
        "state",
    )
    oldest = _gauge(
        "queue_oldest_due_age_seconds",
        "For how long the longest waiting ready job has been due.",
        "queue",
    )
    suspects = _gauge(
        "queue_suspects", "Ready jobs whose worker died while they ran: each worker runs one at a time.", "queue"
    )
    unserved = _gauge("queue_unserved", "Ready jobs of a queue from which no living worker takes any.", "queue")
    for queue, now in sorted(depths.items()):
        for state in UNFINISHED:
            depth.add_metric([queue, state], getattr(now, state))
        oldest.add_metric([queue], now.oldest_due)
        suspects.add_metric([queue], now.suspects)
        unserved.add_metric([queue], now.unserved)
    yield from (depth, oldest, suspects, unserved)
    yield _one(_gauge("jobs_blocked", "Jobs that wait for others."), sum(now.blocked for now in depths.values()))


def _of_flows(flows: Flows) -> Iterable[Metric]:
    for name, meaning, value in (
        ("webhook_backlog", "Deliveries of webhooks that wait for a try, or are under way.", flows.deliveries),
        ("events_lag_seconds", "How long readers of the log wait for a transaction that writes it.", flows.events_lag),
        ("bundles_unfinished", "Bundles that have not ended; counted up to 10 000.", flows.bundles),
        ("gate_note_age_seconds", "For how long a gate has wanted a look: alarm above 5.", flows.note_age),
        ("facts_waiting", "Ends of jobs not seen to yet for bundles and later jobs; up to 10 000.", flows.facts),
        ("schedule_lag_seconds", "For how long the schedule has been due that is most overdue.", flows.schedule_lag),
    ):
        if value is not None:
            yield _one(_gauge(name, meaning), value)
    if flows.limits is not None:
        yield _by_limit(
            _gauge("limit_waiting", "Jobs in the lines of a limit; counted up to 10 000.", "limit"), flows.limits
        )


def _counter(name: str, meaning: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"jobqueue_{name}", meaning, labels=labels)


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"jobqueue_{name}", meaning, labels=labels)


def _by_limit(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, int]) -> Metric:
    for limit, value in sorted(values.items()):
        family.add_metric([limit], value)
    return family


def _one(family: CounterMetricFamily | GaugeMetricFamily, value: float) -> Metric:
    family.add_metric([], value)
    return family
