"""`make test-busy`: runs a command on a busy machine: one process for each core burns it, beside the command.

The burners watch who started them: they end with it, however it ends.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

BURN = """
import os
starter = os.getppid()
print("burning", flush=True)
while os.getppid() == starter:
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def burning(cores: int) -> Iterator[list[int]]:
    """So many processes of ordinary niceness compute for the length of the block; gives their ids."""
    with ExitStack() as stack:
        burners = []
        for _ in range(cores):
            burner = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            stack.enter_context(burner)
            stack.callback(burner.kill)
            assert burner.stdout is not None
            burner.stdout.readline()  # it has begun, and knows its starter
            burners.append(burner.pid)
        yield burners


def run(command: Sequence[str]) -> int:
    """Run it beside the burners; its exit code."""
    with burning(os.cpu_count() or 1), subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # Ctrl-C goes to the command too, which ends as it likes


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
