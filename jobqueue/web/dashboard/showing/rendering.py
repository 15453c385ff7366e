"""Fills templates. Everything is escaped, and a name that nobody has set is an error, not a gap."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.job import short_id
from jobqueue.web.dashboard.showing import words
from jobqueue.web.dashboard.showing.sparks import spark
from jobqueue.web.dashboard.showing.tracebacks import frames_of

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
except ModuleNotFoundError as missing:
    raise ConfigurationError(f'web: {missing.name} is not installed; pip install "jobqueue[web]"') from None

_TEMPLATES = Path(__file__).parents[1] / "templates"
_AROUND = ("head", "main")
"""Blocks of every page, which use what the page sets outside of them: no parts that stand alone."""


class UnknownBlock(LookupError):
    """Raised for a block that the template does not have."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    environment.filters |= {
        "number": words.number, "about": words.about, "span": words.span, "percent": words.percent,
        "clock": words.clock, "iso": words.iso, "part": words.part, "short": short_id,
        "epoch": words.epoch, "spark": spark, "frames": frames_of,
    }  # fmt: skip
    for pieces in ("pieces", "holding"):  # also where a block stands alone
        environment.globals[pieces] = environment.get_template(f"{pieces}.html").module
    return environment


def render(name: str, values: Mapping[str, object], blocks: Sequence[str] = ()) -> str:
    """A page; or one block of it, for a page that renews a part of itself; or several, each in a `<template>`.

    Raises UnknownBlock.
    """
    template: Template = _environment().get_template(name)
    if not blocks:
        return template.render(values)
    if unknown := set(blocks) - (template.blocks.keys() - _AROUND):
        raise UnknownBlock(*unknown)
    texts = ["".join(template.blocks[block](template.new_context(dict(values)))) for block in blocks]
    if len(texts) == 1:
        return texts[0]
    return "".join(
        f'<template data-part="{block}">{text}</template>' for block, text in zip(blocks, texts, strict=True)
    )
