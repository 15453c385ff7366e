"""`python -m jobqueue`, and the console script: signals first, everything else takes a while to be imported."""

import gc
import sys

from jobqueue.cli.terminal.first_moments import answer_signals, answered


def main() -> None:
    """Run the command that the process was started with, and exit."""
    answer_signals(sys.argv[1:])
    gc.disable()  # what is imported stays: to look through it again and again is a tenth of the start
    from jobqueue.cli.main import main as run

    gc.enable()
    answered()
    run()


if __name__ == "__main__":
    main()
