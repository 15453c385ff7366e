"""Numbers and times as people read them. Spaces inside them do not break."""

from datetime import UTC, datetime
from urllib.parse import quote

_THIN = "\u202f"
_STEPS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def number(value: float | None) -> str:
    """12 345; a dash for nothing."""
    if value is None:
        return "—"
    if value % 1 and abs(value) < 100:
        return f"{value:.1f}"
    return f"{round(value):,}".replace(",", _THIN)


def about(value: int, estimated: bool = False) -> str:
    """The same, with a sign that it is only about right."""
    return f"~{number(_rounded(value))}" if estimated else number(value)


def span(seconds: float | None) -> str:
    """How long: 38 ms, 0.2 s, 41 s, 12 min, 3 h 20 min, 5 d."""
    if seconds is None:
        return "—"
    seconds = max(seconds, 0.0)
    if seconds < 0.1:
        return f"{round(seconds * 1000)}{_THIN}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}{_THIN}s"
    if seconds < 60:
        return f"{round(seconds)}{_THIN}s"
    for place, (size, word) in enumerate(_STEPS):
        if seconds >= size:
            whole = f"{int(seconds // size)}{_THIN}{word}"
            rest = int(seconds % size // _STEPS[place + 1][0]) if place + 1 < len(_STEPS) else 0
            return f"{whole} {rest}{_THIN}{_STEPS[place + 1][1]}" if rest and seconds < 10 * size else whole
    raise AssertionError  # a minute or more is one of them


def percent(share: float) -> str:
    """A share of one, such as 2.1 %."""
    share *= 100
    return f"{share:.0f}{_THIN}%" if share >= 10 or share == 0 else f"{share:.1f}{_THIN}%"


def clock(moment: datetime | None) -> str:
    """A moment in UTC; the page's script turns it into the reader's time."""
    return "—" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def iso(moment: datetime) -> str:
    """A moment for machines."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def epoch(moment: datetime) -> int:
    """A moment as seconds since 1970, for charts."""
    return int(moment.timestamp())


def part(text: object) -> str:
    """A name as one part of a URL."""
    return quote(str(text), safe="")


def _rounded(value: int) -> int:
    return value if value < 1_000 else int(float(f"{value:.3g}"))
