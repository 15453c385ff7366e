"""The table of log events: it has every event that the package logs, as it is logged, and no other."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.sources import Function, functions, package_files, place, tree
from tests.support.events import BOUND, table

LEVELS = {"debug", "info", "warning", "error", "critical"}
UNKNOWN = "?"
LOG = next(path for path in package_files() if path.as_posix().endswith("base/log.py"))


def logged(path: Path) -> Iterator[tuple[str, str, str, set[str]]]:
    """Yield each call that logs an event: where, which, at which level, with which fields."""
    for function in functions(path):
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS:
                said = ast.unparse(call.func.value)
                if not said.endswith(("log", "get_logger(__name__)")):
                    continue
                event = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else UNKNOWN
                yield place(path, call.lineno), str(event), call.func.attr, fields_of(call, function, path)


def fields_of(call: ast.Call, function: Function, path: Path) -> set[str]:
    """Return the names of what is logged, those of `**facts` too: a dict of this function, or what another gives."""
    found = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    for keyword in call.keywords:
        if keyword.arg is None:
            found |= keys_of(keyword.value, function, path)
    return found


def keys_of(facts: ast.expr, function: Function, path: Path) -> set[str]:
    if isinstance(facts, ast.Dict):
        own = {key.value for key in facts.keys if isinstance(key, ast.Constant)}
        spread = [value for key, value in zip(facts.keys, facts.values, strict=True) if key is None]
        return {str(key) for key in own}.union(*(keys_of(value, function, path) for value in spread))
    if isinstance(facts, ast.Name):
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == facts.id
        ]
        return set[str]().union(*(keys_of(value, function, path) for value in values)) if values else {UNKNOWN}
    if isinstance(facts, ast.Call) and isinstance(facts.func, ast.Name):
        made = [each for each in [*functions(path), *functions(LOG)] if each.name == facts.func.id]
        returns = [node.value for each in made for node in ast.walk(each) if isinstance(node, ast.Return)]
        return set[str]().union(*(keys_of(value, made[0], path) for value in returns if value)) or {UNKNOWN}
    return {UNKNOWN}


def test_every_event_is_in_the_table_as_it_is_logged() -> None:
    """S3-20, S4-39: fields are an allow-list: each call logs an event of the table, at its level, with its fields."""
    found = [entry for path in package_files() for entry in logged(path)]
    assert len(found) >= 35, f"only {len(found)} calls: are they found?"
    wrong = [
        f"{where}: {event} as {level} with {sorted(fields)}; the table has {table().get(event)}"
        for where, event, level, fields in found
        if event not in table() or not table()[event].fits(level, fields | {BOUND})
    ]
    assert [] == wrong


def test_the_table_has_no_event_that_is_never_logged() -> None:
    """What somebody waits for can come."""
    logs = {event for path in package_files() for _, event, _, _ in logged(path)}

    assert set() == set(table()) - logs


def test_no_event_has_a_field_for_what_is_private() -> None:
    """S3-20: fields are an allow-list; an error's message is told only where settings or a terminal want it."""
    private = {"args", "payload", "result", "meta", "message", "data", "traceback", "key", "dsn", "password"}

    assert {} == {name: event.fields & private for name, event in table().items() if event.fields & private}


def test_only_our_logger_logs() -> None:
    """Nothing in the package logs past `base/log.py`, whose lines the table lists."""
    others = [
        place(path, node.lineno)
        for path in package_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("logging.getLogger", "structlog.get_logger")
        if path.name not in ("log.py", "logs.py", "log_choices.py", "outages.py") and not sets_a_level(node, path)
    ]

    assert [] == others


def sets_a_level(call: ast.Call, path: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr == "setLevel" and node.value is call
        for node in ast.walk(tree(path))
    )
