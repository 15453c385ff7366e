"""What can be asked: one row each, below `/api/v1`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from jobqueue.web.dashboard.reading.overview import read_overview
from jobqueue.web.dashboard.reading.view import Model

Answer: TypeAlias = Callable[..., Awaitable[Model]]


@dataclass(frozen=True, slots=True)
class Row:
    """A reader or a verb: an async function of a View, and of what a request says.

    Its parameters named in `path` come from there. Of a GET all others come from the query; of a POST the one whose
    type is a Model is the body. The first line of its docstring describes it, its return type is what is sent.
    """

    method: str
    path: str
    answer: Answer
    payloads: bool = False
    """Only for those who may see payloads: else it would tell what they may not see."""


ROWS: tuple[Row, ...] = (
    Row("GET", "/overview", read_overview),
)  # fmt: skip
