"""`make schema-snapshot`: writes schema/current.sql, the whole schema as the migrations make it.

Dumped by the pg_dump of the embedded server, which reads every version that we support. What differs from version to
version, or from day to day, is left out: versions, session settings, names of NOT NULL constraints, the archive's days.
"""

import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg

from jobqueue.store.embedded.home import installed_programs
from tests.support.postgres.database import Databases
from tests.support.postgres.server import RunServer

CURRENT = Path(__file__).resolve().parents[3] / "schema" / "current.sql"
HEAD = "-- The whole schema as the migrations make it. Written by `make schema-snapshot`; never edit it.\n\n"
NOISE = (
    r"^--\n-- (?:Name: .*|PostgreSQL database dump.*)\n--\n",
    r"^-- Dumped .*\n",
    r"^\\(?:un)?restrict .*\n",
    r"^SET (?:\w+ = .*|default_\w+ = .*);\n",
    r"^SELECT pg_catalog\.set_config.*\n",
    r"(?<=.) CONSTRAINT \w+_not_null(?= NOT NULL)",
)


def snapshot(dsn: str, schema: str = "jobqueue") -> str:
    """The schema's definition, the same text on every version of PostgreSQL and on every day."""
    dump = [installed_programs() / "pg_dump", "--schema-only", "--no-owner", "--no-privileges", f"--schema={schema}"]
    days = [f"--exclude-table={schema}.{pieces}_2*" for pieces in ("job_archive_*", "event")]
    answer = subprocess.run([*map(str, dump), *days, dsn], check=True, capture_output=True, text=True)
    return normalised(answer.stdout)


def newer_server(dsn: str) -> int | None:
    """The major version of a server that our pg_dump cannot read, None if it can."""
    with psycopg.connect(dsn) as connection:
        server = connection.info.server_version // 10_000
    said = subprocess.run([installed_programs() / "pg_dump", "--version"], check=True, capture_output=True, text=True)
    return server if server > int(said.stdout.split()[-1].partition(".")[0]) else None


def normalised(text: str) -> str:
    for noise in NOISE:
        text = re.sub(noise, "", text, flags=re.MULTILINE)
    return HEAD + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def main() -> int:
    with closing(RunServer()) as run, closing(Databases(run.server())) as databases:
        with databases.temporary(run.template()) as dsn:
            CURRENT.write_text(snapshot(dsn), encoding="utf-8")
        print(f"{CURRENT.name}: from {run.started}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
