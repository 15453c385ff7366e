"""The attempts of a job on one line of time: what is drawn, in percent of its width. And its words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from jobqueue.web.dashboard.showing import words

BarKind: TypeAlias = Literal["waits", "runs", "fails", "phase", "parked"]

_LEAST = 0.35
"""Percent: what is shorter could not be seen."""
_TICKS = 4
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Step:
    """A phase: a durable step, a sleep, a wait for a signal."""

    name: str
    began: datetime
    ended: datetime | None
    parked: bool = False
    """It slept, or waited for a signal."""


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt: since when it waited, when it ran. None for what is not known, or not yet."""

    name: str
    since: datetime | None
    began: datetime | None
    ended: datetime | None
    how: str
    """`failed`, `completed`, `runs`, `waits`, ..."""

    @property
    def failed(self) -> bool:
        """True if it ended as no attempt should."""
        return self.how == "failed"


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle."""

    kind: BarKind
    x: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    """An attempt as it is drawn."""

    name: str
    bars: tuple[Bar, ...]
    length: str
    """How long it ran."""
    words: str
    """The same for who cannot see it."""
    phase: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment on the axis."""

    x: float
    at: datetime
    anchor: Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is drawn."""

    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    length: str


def timeline(runs: Sequence[Run], steps: Sequence[Step], since: datetime, until: datetime) -> Timeline:
    """Attempts, and below them phases, between two moments; what lies outside is cut off."""
    scale = _Scale(since, max(until, since + timedelta(milliseconds=1)))
    return Timeline(
        (*(_row(run, scale) for run in runs), *(_step(step, scale) for step in steps)),
        scale.ticks(),
        words.span(scale.seconds),
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    since: datetime
    until: datetime

    @property
    def seconds(self) -> float:
        return (self.until - self.since).total_seconds()

    def at(self, moment: datetime) -> float:
        """Where it is, in percent."""
        return round(min(max(100 * (moment - self.since).total_seconds() / self.seconds, 0.0), 100.0), 3)

    def bar(self, kind: BarKind, since: datetime, until: datetime, title: str) -> Bar:
        """At least so wide that it can be seen, and inside of the whole."""
        x, end = self.at(since), self.at(max(since, until))
        width = max(end - x, _LEAST)
        return Bar(kind, round(min(x, 100 - width), 3), round(width, 3), title)

    def ticks(self) -> tuple[Tick, ...]:
        """The two ends, and round moments between them that are not too near to these."""
        step = next((step for step in _STEPS if self.seconds / step <= _TICKS), None)
        between = []
        if step is None:
            step = -(-int(self.seconds) // (_TICKS * 86_400)) * 86_400
        if self.seconds >= 2:
            stamp = (int(self.since.timestamp()) // step + 1) * step
            while stamp < self.until.timestamp():
                moment = self.since + timedelta(seconds=stamp - self.since.timestamp())
                x = self.at(moment)
                if 22 < x < 85:
                    between.append(Tick(x, moment, "middle"))
                stamp += step
        return (Tick(0.0, self.since, "start"), *between, Tick(100.0, self.until, "end"))


def _row(run: Run, scale: _Scale) -> Row:
    bars: list[Bar] = []
    said: list[str] = []
    ended = run.ended or scale.until
    if run.since is not None:
        until = run.began or ended
        said.append(f"waited {words.span((until - run.since).total_seconds())}")
        bars.append(scale.bar("waits", run.since, until, said[-1]))
    if run.began is not None:
        ran = (ended - run.began).total_seconds()
        said.append(f"ran {words.span(ran)}")
        bars.append(scale.bar("runs", run.began, ended, said[-1]))
    if run.failed:
        bars.append(_end(bars, scale.at(ended), run.how))
    length = "—" if run.began is None else words.span((ended - run.began).total_seconds())
    return Row(run.name, tuple(bars), length, f"{run.name}: {', '.join([*said, run.how])}")


def _end(bars: Sequence[Bar], x: float, how: str) -> Bar:
    """The mark of a failure: at the end of its run, behind one that is itself no more than a mark."""
    if bars and bars[-1].width < 2 * _LEAST:
        x = bars[-1].x + bars[-1].width + _LEAST
    return Bar("fails", round(min(max(x - _LEAST, 0.0), 100 - _LEAST), 3), _LEAST, how)


def _step(step: Step, scale: _Scale) -> Row:
    until = max(step.began, step.ended or scale.until)
    took = words.span((until - step.began).total_seconds())
    bar = scale.bar("parked" if step.parked else "phase", step.began, until, took)
    return Row(step.name, (bar,), took, f"phase {step.name}: {took}", phase=True)
