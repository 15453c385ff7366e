"""Small charts as SVG: attributes only, colours by class, so that the strictest policy shows them."""

from collections.abc import Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT = 100.0, 32.0


def spark(values: Sequence[float | None], label: str, kind: str = "") -> Markup:
    """A line with what lies below it; gaps where there is no value. `label` says it to those who do not see it."""
    known = [value for value in values if value is not None]
    if len(values) < 2 or not known:
        return Markup("")
    top = max(*known, 1e-9)
    step = _WIDTH / (len(values) - 1)
    lines = Markup("").join(_stretch(stretch, step, top) for stretch in _stretches(values))
    return Markup(
        '<svg class="spark {kind}" viewBox="0 0 100 32" preserveAspectRatio="none" role="img" aria-label="{label}">'
        "{lines}</svg>"
    ).format(kind=kind, label=label, lines=lines)


def _stretches(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The runs of values without a gap, with their places."""
    found: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values):
        if value is not None:
            found[-1].append((place, value))
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]


def _stretch(points: Sequence[tuple[int, float]], step: float, top: float) -> Markup:
    line = " ".join(
        f"{place * step:.1f},{_HEIGHT - (_HEIGHT - 2) * max(value, 0) / top:.1f}" for place, value in points
    )
    first, last = points[0][0] * step, points[-1][0] * step
    return Markup(
        '<polygon class="area" points="{first:.1f},32 {line} {last:.1f},32"/><polyline class="line" points="{line}"/>'
    ).format(first=first, last=last, line=line)
