"""A process that migrates: says that it is ready, waits for a line, migrates, says what it applied.

`python -m tests.support.postgres.migrator DSN`
"""

import asyncio
import sys

from jobqueue.store.schema.migrate import migrate

if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    print(*asyncio.run(migrate(sys.argv[1])), flush=True)
