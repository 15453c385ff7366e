"""Start a run, and say how to go on."""

import argparse
import asyncio
from pathlib import Path

from examples.pipeline.app import TABLE, alarm, app, connections, split
from examples.pipeline.imports import LIBRARY


async def main(folder: Path, report: Path) -> None:
    """Store the first job of a run; a worker does the rest, today or tomorrow."""
    await app.migrate()
    async with app, connections(app) as pool:
        await pool.execute(TABLE)
        async with app.bundle("imports", on_failure=alarm.job()) as run:
            run.add(split.job(folder, report))
    print(f"started:  {run.id}")
    print("run it:   python -m jobqueue worker examples.pipeline.app:app")
    print(f"watch it: python -m jobqueue bundles wait {run.id} examples.pipeline.app:app")
    print(f"read it:  {report}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.pipeline", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=LIBRARY, help="default: Python's standard library")
    parser.add_argument("--report", type=Path, default=Path("imports.txt"), help="default: imports.txt")
    options = parser.parse_args()
    asyncio.run(main(options.folder.resolve(), options.report.resolve()))
