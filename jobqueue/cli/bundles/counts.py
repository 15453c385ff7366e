"""How many bundles there are, in words and as JSON values."""

from dataclasses import asdict

from jobqueue.base.flows.bundle import BundleCounts
from jobqueue.telling.spans import number


def told(counts: BundleCounts) -> str:
    """`3 unfinished, ~1200 finished, 2 with errors`: ~ stands before what is estimated."""
    named = {"unfinished": counts.unfinished, "finished": counts.finished, "with_errors": counts.with_errors}
    return ", ".join(
        f"{number(bundles, name in counts.estimated)} {name.replace('_', ' ')}"
        for name, bundles in named.items()
        if bundles
    )


def counts_document(counts: BundleCounts) -> dict[str, object]:
    """Counts as JSON values; `estimated` names the numbers that are only about right."""
    return asdict(counts) | {"estimated": sorted(counts.estimated)}
