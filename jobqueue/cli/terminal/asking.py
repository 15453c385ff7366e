"""Questions before something is done that cannot be taken back."""

import sys

import typer

from jobqueue.cli.terminal.failures import ExitCode, Refusal


def somebody_to_ask() -> bool:
    """True if a person sits there, as far as can be known."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agreed(question: str) -> bool:
    """Ask; no is the answer of who just presses Enter. Ctrl-C and Ctrl-D raise Refusal."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        sys.stderr.write("\n")  # the cursor stands behind the question
        raise Refusal("interrupted, nothing was done", ExitCode.INTERRUPTED) from None
