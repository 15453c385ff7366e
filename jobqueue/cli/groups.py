"""The groups of verbs: each is imported when one of its verbs is called, or when it is shown.

Most commands are of no group, or of one: to build the others would be a third of what a short command costs.
"""

from collections import UserDict
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer

_HOMES = {
    "jobs": "jobqueue.cli.jobs.steering_verbs",
    "bulk": "jobqueue.cli.bulk.verbs",
    "queues": "jobqueue.cli.queues.verbs",
    "limits": "jobqueue.cli.limits.verbs",
    "bundles": "jobqueue.cli.bundles.verbs",
    "schedules": "jobqueue.cli.schedules.verbs",
    "webhooks": "jobqueue.cli.webhooks.verbs",
}
"""Where each is declared, under its own name; in the order of `--help`."""


class Surface(typer.core.TyperGroup):
    """The whole command: its own verbs, then the groups."""

    def __init__(self, *, commands: Mapping[str, Any], **how: Any) -> None:
        super().__init__(**how)
        self.commands = _Verbs({**commands, **_HOMES})


class _Verbs(UserDict[str, Any]):
    """Verbs by their names, and the modules of those that are not loaded yet."""

    def __getitem__(self, name: str) -> Any:
        verb = super().__getitem__(name)
        if isinstance(verb, str):
            verb = self[name] = typer.main.get_command(getattr(import_module(verb), name))
        return verb
