"""The text of a traceback as its lines: the user's own frames, those of libraries, and what was raised.

Whatever the text is, all its lines come out, in order, each once; ours are left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

LineKind: TypeAlias = Literal["head", "own", "code", "library", "raised"]
"""`own`: where a frame of the user's is; `code`: its source; `library`: both, of others; `raised`: class, message."""

_FRAME = re.compile(r'(?P<margin>[ |+-]*)File "(?P<file>.*)", line (?P<line>\d+)(?:, in (?P<name>.*))?')
_HEAD = re.compile(
    r"[ |+-]*(?:(?:Exception Group )?Traceback \(most recent call last\):|During handling of the above exception, .*"
    r"|The above exception was the direct cause .*)"
)
_PLACE = re.compile(r"(?P<file>.*):(?P<line>\d+) (?P<name>.*)")
_LIBRARY = re.compile(r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib(?:64)?[/\\]python\d|^<frozen |[/\\]Lib[/\\]")
_OURS = f"{Path(__file__).parents[3]}/"
_OURS_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]jobqueue[/\\]")
LINES = 2_000


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a traceback, and what it is."""

    kind: LineKind
    text: str


def lines_of(traceback: str, most: int = LINES) -> list[Line]:
    """All lines but those of our frames; of a longer one than `most` lines the first and the last."""
    texts = traceback.splitlines()
    if len(texts) > most:
        half = most // 2
        texts = [*texts[:half], f"... {len(texts) - most} lines ...", *texts[-half:]]
    return list(_told(texts))


def frames_of(stack: str) -> list[Line]:
    """A stack as workers tell it, `file:line name > file:line name`, a line each; without ours, if there are others."""
    frames = [(_PLACE.fullmatch(text), text) for text in stack.split(" > ") if text]
    whose = [_whose(found["file"]) if found else "own" for found, _ in frames]
    told: list[Line] = []
    for (found, text), owner in zip(frames, whose, strict=True):
        shown = f"{found['file']}:{found['line']} in {found['name']}" if found else text
        if owner != "ours" or set(whose) == {"ours"}:
            told.append(Line("own" if owner == "own" else "library", shown))
    return told


def place_of(lines: list[Line]) -> str | None:
    """Where the user's own code stood when it failed, `shop/billing.py:88 in charge`: their innermost frame."""
    last = next((line for line in reversed(lines) if line.kind == "own"), None)
    found = None if last is None else _FRAME.fullmatch(last.text)
    if found is None:
        return None
    file = "/".join(re.split(r"[/\\]", found["file"])[-2:])
    return f"{file}:{found['line']}" + (f" in {found['name']}" if found["name"] else "")


def _told(texts: list[str]) -> Iterator[Line]:
    kind: LineKind | Literal["ours"] = "raised"
    margin = -1
    for text in texts:
        if frame := _FRAME.fullmatch(text):
            kind, margin = _whose(frame["file"]), len(frame["margin"])
            if kind != "ours":
                yield Line(kind, text)
        elif _HEAD.fullmatch(text):
            kind, margin = "raised", -1
            yield Line("head", text)
        elif margin >= 0 and len(text) - len(text.lstrip(" |")) > margin:  # the source of the frame above
            if kind != "ours":
                yield Line("code" if kind == "own" else kind, text)
        else:
            kind, margin = "raised", -1
            yield Line("raised" if text.strip() else "head", text)


def _whose(file: str) -> Literal["own", "library", "ours"]:
    if file.startswith(_OURS) or _OURS_INSTALLED.search(file):
        return "ours"
    return "library" if _LIBRARY.search(file) else "own"
