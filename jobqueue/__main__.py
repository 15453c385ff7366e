"""`python -m jobqueue`, and the console script: signals first, everything else takes a while to be imported."""

import gc
import sys

from jobqueue.cli.terminal.first_moments import LOADING, answer_signals, answered


def main() -> None:
    """Run the command that the process was started with, and exit."""
    answer_signals(sys.argv[1:])
    gc.set_threshold(LOADING)
    from jobqueue.cli.main import main as run

    answered()
    run()


if __name__ == "__main__":
    main()
