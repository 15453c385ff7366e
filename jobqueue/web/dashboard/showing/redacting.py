"""What a site takes out of payloads before anybody sees them."""

from collections.abc import Callable
from typing import TypeAlias

from jobqueue.base.job import Job, JsonValue

Redact: TypeAlias = Callable[[Job, str, JsonValue], JsonValue]
"""`redact(job, path, value)` gives what is shown in place of `value`; `path` such as `args.card.number`."""
