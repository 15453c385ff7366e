"""What a verb that waits says while the database is away. Light: it does not load structlog, which loads rich."""

import logging

from jobqueue.cli.terminal.failures import tell
from jobqueue.cli.terminal.log_choices import configured_by_user


def tell_of_outages() -> None:
    """For verbs that wait: an outage is one line for people, and no record of ours; unless the user has set up logs."""
    if not configured_by_user():
        logging.getLogger("jobqueue").addHandler(_Away())


class _Away(logging.Handler):
    """Says in a sentence, once, what the library would write to its log again and again."""

    _said = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._said:
            self._said = True
            tell("the database is away; still waiting")
