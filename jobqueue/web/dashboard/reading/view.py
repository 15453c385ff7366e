"""Who looks, and with what; and what all models have in common."""

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, PlainSerializer

from jobqueue.base.acting.audit import By
from jobqueue.tasks.jobs import Jobs
from jobqueue.web.dashboard.access.access import Access
from jobqueue.web.dashboard.site import Site

FRESH = 1.0
"""Seconds for which one look at what goes on serves all who look at the same, as that at the whole does."""


class Model(BaseModel):
    """Something to see. Frozen; its JSON has the names of its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls, source: object, **given: Any) -> Self:
        """What `source` has under the names of the fields, but for those that are given."""
        return cls(**{name: getattr(source, name) for name in cls.model_fields if name not in given}, **given)


Big = Annotated[int, PlainSerializer(str, return_type=str, when_used="json")]
"""A number of 64 bits, which JavaScript would round: text in JSON."""


@dataclass(frozen=True, slots=True)
class View:
    """One look of somebody at a site."""

    site: Site
    access: Access

    @property
    def queues(self) -> frozenset[str] | None:
        """Those that may be seen; None: all."""
        return None if self.access.queues is None else frozenset(self.access.queues)

    @property
    def by(self) -> By:
        """Who it is, for the audit."""
        return By(self.access.user, "web")

    @property
    def jobs(self) -> Jobs:
        """Looks at jobs, within the limits of looks."""
        return Jobs(self.site.app.looks)
