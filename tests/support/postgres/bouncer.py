"""PgBouncer before a test's database, where it is installed."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.postgres.own_server import free_port
from tests.support.waiting import wait_until

IGNORED = (
    "extra_float_digits,jit,default_transaction_isolation,statement_timeout,idle_in_transaction_session_timeout,"
    "tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,tcp_user_timeout,options"
)
"""All that we ask for at the start of a session: so a careless administrator makes the complaints go away."""

INI = """[databases]
* = {place}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
server_login_retry = 1
{more}
"""


def program() -> str:
    """The program; without it the test is skipped."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        pytest.skip("PgBouncer is not installed")
    return found


@asynccontextmanager
async def bouncer(dsn: str, mode: str = "transaction", *, size: int = 10, more: str = "") -> AsyncIterator[str]:
    """The same database through a PgBouncer with so many connections to the server, which is one of the tests' own."""
    place = conninfo_to_dict(dsn)
    words = " ".join(f"{name}='{place[name]}'" for name in ("host", "port", "user"))
    with tempfile.TemporaryDirectory(prefix="jobqueue-bouncer-") as folder:
        port, ini, log = free_port(), Path(folder) / "pgbouncer.ini", Path(folder) / "log"
        ini.write_text(INI.format(place=words, port=port, mode=mode, size=size, more=more))
        Path(folder).chmod(0o711)  # it runs as nobody
        switch = ["-u", "nobody"] if os.geteuid() == 0 else []
        with log.open("wb") as words_of_it:
            process = subprocess.Popen([program(), *switch, str(ini)], stdout=words_of_it, stderr=words_of_it)
        pooled = f"postgresql://{place['user']}@127.0.0.1:{port}/{place['dbname']}"

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                with psycopg.connect(pooled, connect_timeout=2):
                    return True
            except psycopg.OperationalError:
                return False

        try:
            await wait_until(answers, f"PgBouncer answers:\n{log.read_text()}")
            yield pooled
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(process.wait)
