"""`make bench-smoke`: fails if we have become far slower beside the raw limit than we should be.

Only a ratio decides, of both sides in turns, and the best of some tries: a busy machine slows both, and not always.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing

from tests.support.postgres.database import Databases
from tests.support.postgres.server import RunServer

LEAST = {"drain": 0.25, "bulk": 0.12}
"""Ratios that a change which costs us a third or half of our speed falls below."""
TRIES = 5
JOBS = 5_000


def best_of(measure: Callable[[list[str]], Mapping[str, float]]) -> dict[str, float]:
    """The best ratio of each; what is good enough is not measured again."""
    best = dict.fromkeys(LEAST, 0.0)
    for _ in range(TRIES):
        if slow := too_slow(best):
            for name, ratio in measure(slow).items():
                best[name] = max(best[name], ratio)
    return best


def too_slow(ratios: Mapping[str, float]) -> list[str]:
    """The names of those that are below what they should be."""
    return [name for name, least in LEAST.items() if ratios[name] < least]


def measured(dsn: str, names: list[str]) -> dict[str, float]:
    """The ratios of one run of the bench."""
    words = ["bench", "--dsn", dsn, "--jobs", str(JOBS), "--repeats", "1", "--only", ",".join(names), "--json"]
    answer = subprocess.run([sys.executable, "-m", "jobqueue", *words], check=True, stdout=subprocess.PIPE, text=True)
    return {found["name"]: found["rows"][0]["ratio"] for found in json.loads(answer.stdout)["measurements"]}


def main() -> int:
    with closing(RunServer()) as run, closing(Databases(run.server())) as databases, databases.temporary() as dsn:
        best = best_of(lambda names: measured(dsn, names))
    for name, ratio in best.items():
        verdict = "far too slow" if name in too_slow(best) else "fast enough"
        print(f"{name}: {ratio:.2f} of the raw limit, at least {LEAST[name]:.2f}: {verdict}")
    return 1 if too_slow(best) else 0


if __name__ == "__main__":
    sys.exit(main())
