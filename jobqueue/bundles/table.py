"""Groups of jobs as a table of text, in so many columns."""

from collections.abc import Callable, Sequence

from jobqueue.bundles.grouping import GONE, Group
from jobqueue.bundles.wording import named, states_of, who

Paint = Callable[[str, str], str]
"""Gives back a text in the colour of a state: `paint("dead", "3 dead")`."""

_NAMED = 6
"""How many of those that come before are named."""


def table(rows: Sequence[Group], width: int, paint: Paint) -> list[str]:
    """Step, who and task in columns; the states and what comes before flow beside them."""
    heads = ("step", "job", "task")
    cells = [(_step(group), who(group), named(group.task)) for group in rows]
    first, second, third = (max(map(len, column)) for column in zip(heads, *cells, strict=True))
    starts = [f"{step:>{first}}  {job:<{second}}  {task:<{third}}  " for step, job, task in (heads, *cells)]
    states = [states_of(group) for group in rows]
    before = [_before(group, rows) for group in rows]
    wide = max(map(_size, states)) + 2
    if any(len(starts[0]) + wide + len(each[0][1]) > width for each in before if each):
        wide = 0
    lines = [f"{starts[0]}state"]
    for start, found, after in zip(starts[1:], states, before, strict=True):
        pieces = [(state, text, ", ") for state, text in found]
        pieces[-1] = (*found[-1], " " * max(2, wide - _size(found)))
        lines += _flow(start, pieces + after, width, paint)
    return lines


def _before(group: Group, rows: Sequence[Group]) -> list[tuple[str, str, str]]:
    """What comes before, beginning with what is not well."""
    before = sorted((rows[place] for place in group.before), key=lambda one: (_urgency(one), one.first))
    names = [who(one) if one.job and group.job else named(one.task) for one in before]
    shown = list(dict.fromkeys(names))
    more = [f"+{len(shown) - _NAMED} more"] if len(shown) > _NAMED else []
    shown = shown[:_NAMED] + more
    return [("", text if at else f"after {text}", ", " if at < len(shown) - 1 else "") for at, text in enumerate(shown)]


def _urgency(group: Group) -> int:
    worst = group.worst_first[0][0]
    return 0 if worst in ("dead", "cancelled", GONE) else 2 if worst == "completed" else 1


def _flow(start: str, pieces: Sequence[tuple[str, str, str]], width: int, paint: Paint) -> list[str]:
    """Pieces - state, text, what divides it from the next - beside a start; what does not fit goes below."""
    lines, line, used = [], start, len(start)
    for state, text, rest in pieces:
        if used + len(text) + len(rest.rstrip()) > width and used > len(start):
            lines.append(line.rstrip())
            line, used = " " * len(start), len(start)
        line += (paint(state, text) if state else text) + rest
        used += len(text) + len(rest)
    return [*lines, line.rstrip()]


def _size(states: Sequence[tuple[str, str]]) -> int:
    return len(", ".join(text for _, text in states))


def _step(group: Group) -> str:
    if not group.first:
        return "end" if group.callback else ""
    return f"{group.first}" if group.first == group.last else f"{group.first}-{group.last}"
