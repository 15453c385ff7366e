"""What our sessions ask of the server; above all limits: what a vanished client has locked is free within a lease.

They are given at the start of a session, or are its first words where a pooler keeps sessions apart. A pooler by
transaction would hand them to others, and a user's own pool is the user's: there our transactions begin with them.
"""

from collections.abc import Mapping

IDLE, INTERVAL, COUNT = 5, 2, 3
SILENCE_MS = (IDLE + INTERVAL * COUNT) * 1000
"""Until either side takes a silent line for dead. The kernel's own limit for an idle one is two hours."""
STATEMENT_MS = 9_000
"""Below our own limit for a statement, so that the server ends it before we stop waiting for it."""
_STANDSTILL_MS = 10_000
"""Between two statements of a transaction: ours wait for nobody there."""

PLAIN: Mapping[str, str] = {"default_transaction_isolation": "read committed", "jit": "off"}
"""For every session."""
SILENCE: Mapping[str, str] = {
    "tcp_keepalives_idle": str(IDLE),
    "tcp_keepalives_interval": str(INTERVAL),
    "tcp_keepalives_count": str(COUNT),
    "tcp_user_timeout": str(SILENCE_MS),
}
"""For every session, too."""
BRIEF: Mapping[str, str] = {
    "statement_timeout": str(STATEMENT_MS),
    "idle_in_transaction_session_timeout": str(_STANDSTILL_MS),
}
"""For all that only this library runs."""
LOCKING: Mapping[str, str] = {"lock_timeout": "3000"}
"""For transactions, which keep what they have locked while they wait for more."""
WATCHED: Mapping[str, str] = {"client_connection_check_interval": "5000"}
"""For statements that may take long: is anybody there still? Only servers on Linux have it, all others refuse it."""
UNHURRIED: Mapping[str, str] = {"statement_timeout": "0"}
"""For what handlers do where the role is told, for our sake, to limit its statements: see `remedy`. Whoever has given
it another limit means it for them too, as without a pooler."""

A_POOLER = (
    "pooler: something that pools connections stands between us and PostgreSQL; say of which kind by Settings(pooler=) "
    'or JOBQUEUE_POOLER: "transaction" or "session", as its pool_mode says; or give the address of the server itself'
)
"""What is raised where nobody has named it, as without it all this could be asked for."""

PLANNED_ONCE: Mapping[str, str] = {"plan_cache_mode": "force_generic_plan"}
"""For few statements that come again and again, whose plans are the same whatever their values are."""


def within_transaction(limits: Mapping[str, str]) -> str:
    """SQL that sets them until the transaction ends, which has begun."""
    return "; ".join(f"set local {name} = '{value}'" for name, value in limits.items())


def begin(*, limited: bool) -> str:
    """SQL that begins a transaction of ours; `limited`: its session has the other limits."""
    limits = LOCKING if limited else {**SILENCE, **BRIEF, **LOCKING}
    return f"begin isolation level read committed; {within_transaction(limits)}"


def within_session(settings: Mapping[str, str]) -> str:
    """SQL that sets them until the session ends."""
    return "; ".join(f"set {name} = '{value}'" for name, value in settings.items())


def remedy(role: str) -> str:
    """SQL that limits the single statements of a role, whose name is quoted if it must be, behind every pooler."""
    return f"alter role {role} set statement_timeout = '{STATEMENT_MS // 1000}s'"
