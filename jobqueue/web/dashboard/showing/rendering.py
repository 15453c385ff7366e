"""Fills templates. Everything is escaped, and a name that nobody has set is an error, not a gap."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from jobqueue.base.job import short_id
from jobqueue.web.dashboard.showing import words
from jobqueue.web.dashboard.showing.sparks import spark

_TEMPLATES = Path(__file__).parents[1] / "templates"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    environment.filters |= {
        "number": words.number, "about": words.about, "span": words.span, "percent": words.percent,
        "clock": words.clock, "iso": words.iso, "part": words.part, "short": short_id,
        "epoch": words.epoch, "spark": spark,
    }  # fmt: skip
    environment.globals["pieces"] = environment.get_template("pieces.html").module  # also where a block stands alone
    return environment


def render(name: str, values: Mapping[str, object], block: str | None = None) -> str:
    """A page; or one block of it, for a page that renews a part of itself. Raises LookupError for a block unknown."""
    template: Template = _environment().get_template(name)
    if block is None:
        return template.render(values)
    return "".join(template.blocks[block](template.new_context(dict(values))))
