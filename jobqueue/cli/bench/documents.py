"""What `bench` found, as JSON values and as Markdown."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from jobqueue.base.version import VERSION
from jobqueue.bench.figures import Series


@dataclass(slots=True)
class Findings:
    """All of one run. `database` without its password."""

    database: str
    jobs: int
    repeats: int
    settings: Mapping[str, str]
    series: list[Series] = field(default_factory=list)


def as_document(findings: Findings) -> dict[str, object]:
    """As JSON values: of each measurement its rows with medians and ratio, all samples, and what processes took."""
    return {
        "version": VERSION,
        "database": findings.database,
        "jobs": findings.jobs,
        "repeats": findings.repeats,
        "settings": dict(findings.settings),
        "measurements": [_measurement(series) for series in findings.series],
    }


def _measurement(series: Series) -> dict[str, object]:
    ours, beside = series.costs
    return {
        "name": series.name,
        "unit": series.unit,
        "against": series.against,
        "rows": [{"what": row.what, "ours": row.ours, "beside": row.beside, "ratio": row.ratio} for row in series.rows],
        "samples": {
            "ours": [sample.values for sample in series.ours],
            "beside": [sample.values for sample in series.beside],
        },
        "processes": {"ours": ours and asdict(ours), "beside": beside and asdict(beside)},
    }


def as_markdown(findings: Findings) -> str:
    """As Markdown: the tables of the terminal, and the settings."""
    lines = []
    against = None
    for series in findings.series:
        if series.against != against:
            against = series.against
            lines += ["", f"| what | ours | {against} | ratio |", "|---|---:|---:|---:|"]
        for row in series.rows:
            ours, beside = figure(row.ours, row.unit), figure(row.beside, row.unit)
            lines.append(f"| {row.what} | {ours} | {beside} | {ratio(row.ratio)} |")
    settings = ", ".join(f"{name} {value}" for name, value in findings.settings.items())
    lines += ["", f"{number(findings.jobs)} jobs, median of {findings.repeats}. {settings}."]
    return "\n".join([*lines[1:], durability(findings.settings), ""])


def durability(settings: Mapping[str, str]) -> str:
    """What a commit is worth with these settings."""
    if "off" in (settings["fsync"], settings["full_page_writes"], settings["synchronous_commit"]):
        return "Not durable: with these settings a crash may lose what was committed."
    return "Durable, on both sides: every commit waits until it is on disk."


def figure(value: float | None, unit: str) -> str:
    """A value with its unit: whole, with thousands apart, or with two places."""
    if value is None:
        return "..."
    return f"{number(value)} {unit}" if value >= 100 else f"{value:.2f} {unit}"


def number(value: float) -> str:
    """A whole number, thousands apart."""
    return f"{value:,.0f}".replace(",", " ")


def ratio(value: float | None) -> str:
    """With two places."""
    return "" if value is None else f"{value:.2f}"
