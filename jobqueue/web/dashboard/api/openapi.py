"""The description of the JSON face in OpenAPI 3.1, made from the table."""

import inspect
from functools import cache
from typing import Any

import orjson
from pydantic import TypeAdapter

from jobqueue.web.dashboard.access.problem import KIND
from jobqueue.web.dashboard.api.parameters import Parameters, parameters
from jobqueue.web.dashboard.api.table import ROWS, Row
from jobqueue.web.dashboard.reading.view import Model

_REFERENCE = "#/components/schemas/{model}"
_ABOUT = (
    "What the dashboard shows and does, for programs. Numbers of 64 bits are text, so that JavaScript does not round "
    "them; arguments and results are their stored JSON text inside a string. What the sender may not see is null or "
    "left out. Whatever changes something needs an Authorization header, or Sec-Fetch-Site: same-origin."
)


class Problem(Model):
    """Why there is no answer, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    error: str | None = None
    """The class of the error, such as JobNotFound."""


@cache
def openapi() -> bytes:
    """The document, in a stable order."""
    taken = [(row, parameters(row)) for row in ROWS]
    adapters: list[tuple[str, Any, TypeAdapter[Any]]] = [("problem", "serialization", TypeAdapter(Problem))]
    for row, takes in taken:
        adapters.append((row.answer.__name__, "serialization", takes.gives))
        if takes.body is not None:
            adapters.append((row.answer.__name__, "validation", TypeAdapter(takes.body[1])))
    names, schemas = TypeAdapter.json_schemas(adapters, ref_template=_REFERENCE)
    paths: dict[str, dict[str, object]] = {}
    for row, takes in taken:
        paths.setdefault(_written(row), {})[row.method.lower()] = _operation(row, takes, names)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "jobqueue",
            "version": "1",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "./"}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Problem": {
                    "description": "Why there is no answer.",
                    "content": {KIND: {"schema": names["problem", "serialization"]}},
                }
            },
        },
        "security": [{}, {"token": []}],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _operation(row: Row, takes: Parameters, names: Any) -> dict[str, object]:
    found: dict[str, object] = {
        "operationId": row.answer.__name__,
        "summary": _summary(row),
        "parameters": _described(takes),
        "responses": {
            "200": {"description": "Done.", "content": _json(names[row.answer.__name__, "serialization"])},
            "default": {"$ref": "#/components/responses/Problem"},
        },
        "x-needs": [*(["operate"] if row.method != "GET" else []), *(["payloads"] if row.payloads else [])],
    }
    if takes.body is not None:
        found["requestBody"] = {"required": True, "content": _json(names[row.answer.__name__, "validation"])}
    return found


def _summary(row: Row) -> str:
    """The first paragraph of the docstring, without what belongs to Python."""
    paragraph = (inspect.getdoc(row.answer) or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).partition(" Raises ")[0]


def _described(takes: Parameters) -> list[dict[str, object]]:
    schema = takes.said.model_json_schema(ref_template=_REFERENCE)
    required = set(schema.get("required", ()))
    return [
        {
            "name": name, "in": "path" if name in takes.in_path else "query", "required": name in required,
            "schema": {key: value for key, value in each.items() if key != "title"},
        }
        for name, each in schema.get("properties", {}).items()
    ]  # fmt: skip


def _json(schema: object) -> dict[str, object]:
    return {"application/json": {"schema": schema}}


def _written(row: Row) -> str:
    """Without what only our router understands."""
    return row.path.replace(":path}", "}").replace(":uuid}", "}")
