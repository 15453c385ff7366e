"""Behind PgBouncer: what stands there is noticed and named, and each mode works as it can."""

import pytest

from jobqueue.store.schema.migrate import migrate, migrations, status
from tests.support.bouncer import bouncer
from tests.support.store import advisory_locks, connect

NAMES = [migration.name for migration in migrations()]


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_migrating_through_a_pooler_leaves_no_lock_behind(own: str, mode: str) -> None:
    """Whatever connection the pooler gave the migrator, the next one finds the lock free."""
    async with bouncer(own, mode) as pooled, connect(own) as observer:
        assert NAMES == await migrate(pooled, "second")
        assert 0 == await advisory_locks(observer)
        assert [] == await migrate(pooled, "second", lock_timeout=0.1)
        assert [] == await migrate(own, "second", lock_timeout=0.1)
        assert [(name, True) for name in NAMES] == await status(pooled, "second")
