"""Plans of limits: a thousand gates with very many who wait, beside a backlog, whatever the planner knows of them."""

from collections.abc import Iterator

import pytest

from tests.support.postgres.database import Databases
from tests.support.postgres.plans import Connection, run_learned

TABLES = ("job", "gate", "gate_note", '"limit"')
LIMITED = (
    "".join(f"alter table jobqueue.{table} set (autovacuum_enabled = false);\n" for table in TABLES)
    + r"""
insert into jobqueue."limit" (name, declared) values
  ('k', '{"concurrency": 10, "burst": 1}'), ('r', '{"count": 100000, "per": 1, "burst": 1}'), ('n', '{"burst": 1}');
insert into jobqueue.job (queue, task, priority, state, via)
  select 'q' || n % 5, 'task', n % 3, 'ready', 'py' from generate_series(1, 25000) n;
insert into jobqueue.job (queue, task, priority, state, via, gates, gate)
  select 'q' || n % 5, 'task', n % 3, 'blocked', 'py', array[E'k\n' || n % 1000], E'k\n' || n % 1000
  from generate_series(1, 25000) n;
insert into jobqueue.job (queue, task, priority, state, via, gates, gate)
  select 'q' || n % 5, 'task', n % 3, 'blocked', 'py', array['~r'], '~r' from generate_series(1, 12000) n;
insert into jobqueue.job (queue, task, state, via, gates, gate)
  select 'q0', 'task', 'blocked', 'py', array[E'~fair:q0\nk'], E'~fair:q0\nk' from generate_series(1, 6000) n;
insert into jobqueue.job (queue, task, state, via, gates, passed)
  select 'held', 'task', 'ready', 'py', array['k'], 1 from generate_series(1, 6000) n;
truncate jobqueue.gate_note;
insert into jobqueue.gate (name, "limit", held) select E'k\n' || n, 'k', 10 from generate_series(1, 5000) n;
insert into jobqueue.gate_note (gate, freed, due_at)
  select E'k\n' || n, 1, now() + interval '1 h' from generate_series(1000, 3000) n;
"""
)
NOTES = {
    "full gates": "insert into jobqueue.gate_note (gate) select E'k\\n' || n from generate_series(1, 999) n",
    "handing over": (
        "insert into jobqueue.gate_note (gate, freed) select E'k\\n' || n, 1 from generate_series(1, 999) n"
    ),
    "one gate with many notes": "insert into jobqueue.gate_note (gate) select '~r' from generate_series(1, 5000) n",
    "a changed limit": r"insert into jobqueue.gate_note (gate) values (E'\nk')",
    "fair": "insert into jobqueue.gate_note (gate) values (E'~fair:q0\\nk')",
    "paused": "insert into jobqueue.queue (name, paused_at) values ('held', now())",
    "nothing": "select",
}
PAGES = {
    "full gates": 45_000,
    "handing over": 95_000,
    "one gate with many notes": 55_000,
    "a changed limit": 95_000,
    "fair": 25_000,
    "paused": 45_000,
    "nothing": 1_000,
}
"""How many pages a look may touch that is due to these notes."""
ASKED: dict[str, tuple[tuple[object, ...], int]] = {
    "note_lines": (("", 1_000), 9_000),
    "forget_gates": (("", 1_000, 0.0), 9_000),
    "change_limit": (("k", '{"concurrency": 11}', False), 500),
    "declare_limits": ((["k"], [12], [None], [None], [1], [False], "x", False), 500),
    "read_limits": ((None,), 110_000),
    "gate_lines": (("k", "7", 10), 10_000),
    "waiting_at_limits": ((10_000,), 15_000),
    "note_age": ((), 500),
}
LEARNED: dict[str, tuple[str, list[str]]] = {
    "unknown": ("stocked", []),
    "before": ("template", ["analyze", LIMITED]),
    "analysed": ("stocked", ["analyze"]),
}
"""A database, and what is done in it. So the planner knows nothing, what was before somebody stored it, all."""


@pytest.fixture(scope="module")
def stocked(databases: Databases, template: str) -> Iterator[str]:
    """The name of a database with a thousand gates; the planner knows nothing of them."""
    with databases.stocked(template, LIMITED) as name:
        yield name


@pytest.mark.parametrize("learned", LEARNED.values(), ids=list(LEARNED), indirect=True)
def test_a_look_at_gates_costs_what_is_let_go(learned: Connection) -> None:
    """No step of a look at gates, nor what is asked about them, reads a line or a table again and again."""
    wrong = []
    for mode in ("custom", "generic"):
        for what, notes in NOTES.items():
            with learned.transaction(force_rollback=True):
                learned.execute(notes.encode())
                touched = run_learned(learned, "admit", (1_000, 0.3), mode, PAGES[what]).buffers
            wrong += [f"{what}, {mode}: {touched} pages"] if touched > PAGES[what] else []
        for name, (values, most) in ASKED.items():
            touched = run_learned(learned, name, values, mode, most).buffers
            wrong += [f"{name}, {mode}: {touched} pages"] if touched > most else []
        last = learned.execute(
            "select id from jobqueue.job where gate = '~r' order by priority, seq desc limit 1"
        ).fetchone()
        touched = run_learned(learned, "place_in_line", (last and last[0], 10_000), mode, 3_000).buffers
        wrong += [f"place_in_line, {mode}: {touched} pages"] if touched > 3_000 else []
    assert not wrong, "\n".join(wrong)
