"""The graph of a bundle as SVG: columns are steps, a node is a job or some alike, in the colour of its worst state."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from markupsafe import Markup

from jobqueue.base.job import short_id
from jobqueue.bundles.grouping import Group

_WIDE, _HIGH, _APART, _BELOW, _EDGE = 176, 48, 64, 16, 8
_LONGEST = 19


def graph(groups: Sequence[Group], base: str, label: str) -> Markup:
    """The whole graph; a node that is one job leads to its page."""
    if not groups:
        return Markup("")
    places = _placed(groups)
    width = max(x for x, _ in places) + _WIDE + _EDGE
    height = max(y for _, y in places) + _HIGH + _EDGE
    links = Markup("").join(
        _link(places[before], places[place]) for place, group in enumerate(groups) for before in sorted(group.before)
    )
    nodes = Markup("").join(_node(group, place, base) for group, place in zip(groups, places, strict=True))
    return Markup(
        '<svg class="graph" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" '
        'aria-label="{label}"><g class="links">{links}</g>{nodes}</svg>'
    ).format(width=width, height=height, label=label, links=links, nodes=nodes)


def _placed(groups: Sequence[Group]) -> list[tuple[int, int]]:
    """Left and top of each node. What has no place in the graph stands first, callbacks in a column of theirs."""
    last = max((group.first for group in groups), default=0)
    columns = [last + 1 if group.callback else max(group.first, 1) for group in groups]
    used = {column: number for number, column in enumerate(sorted(set(columns)))}
    filled: Counter[int] = Counter()
    places = []
    for column in columns:
        places.append((_EDGE + used[column] * (_WIDE + _APART), _EDGE + filled[column] * (_HIGH + _BELOW)))
        filled[column] += 1
    return places


def _link(start: tuple[int, int], end: tuple[int, int]) -> Markup:
    left, right = start[0] + _WIDE, end[0]
    top, bottom = start[1] + _HIGH // 2, end[1] + _HIGH // 2
    middle = (left + right) // 2
    return Markup('<path d="M{left} {top}C{middle} {top} {middle} {bottom} {right} {bottom}"/>').format(
        left=left, top=top, middle=middle, bottom=bottom, right=right
    )


def _node(group: Group, place: tuple[int, int], base: str) -> Markup:
    x, y = place
    states = defaultdict[str, int](int)
    for state, _, number in group.worst_first:
        states[state] += number
    who = short_id(group.job.id) if group.job is not None else f"{group.size} jobs"
    told = ", ".join(state if group.job is not None else f"{number} {state}" for state, number in states.items())
    body = Markup(
        '<g class="node node-{worst}"><title>{title}</title>'
        '<rect x="{x}" y="{y}" width="{wide}" height="{high}" rx="7"/>'
        '<text x="{left}" y="{first}" class="task">{task}</text>'
        '<text x="{left}" y="{second}">{under}</text></g>'
    ).format(
        worst=group.worst_first[0][0], title=f"{group.task}: {who}, {told}", x=x, y=y, wide=_WIDE, high=_HIGH,
        left=x + 10, first=y + 20, second=y + 37, task=_cut(group.task or "unknown"), under=_cut(f"{who} · {told}", 28),
    )  # fmt: skip
    if group.job is None:
        return body
    return Markup('<a href="{base}/jobs/{id}">{body}</a>').format(base=base, id=group.job.id, body=body)


def _cut(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
