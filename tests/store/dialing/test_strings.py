"""Connection strings as users have them: each works, or one sentence names what cannot be done."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import PostgresDsn, TypeAdapter
from sqlalchemy import make_url

from jobqueue import App, ConfigurationError
from jobqueue.store.dialing.libpq import libpq_of
from jobqueue.store.dialing.strings import Address, address_of, text_of, without_secrets
from tests.support.jobs.working import new_app

PLACE = "postgresql://me:geheim@host:6000/shop"
WORKING = [
    "channel_binding=prefer", "channel_binding=disable", "connect_timeout=7", "keepalives=1", "keepalives_idle=30",
    "keepalives_interval=10", "keepalives_count=3", "tcp_user_timeout=1000", "gssencmode=disable", "gssencmode=prefer",
    "gssdelegation=0", "sslsni=1", "sslcompression=0", "client_encoding=utf8", "fallback_application_name=psql",
    "load_balance_hosts=disable", "sslcertmode=allow", "prepared_statement_cache_size=0", "application_name=mine",
]  # fmt: skip
REFUSED = [
    "channel_binding=require", "gssencmode=require", "gssdelegation=1", "hostaddr=127.0.0.1",
    "load_balance_hosts=random",
    "require_auth=scram-sha-256", "requirepeer=postgres", "replication=true", "sslcrldir=/tmp", "sslcertmode=require",
    "sslsni=0",
]  # fmt: skip


def with_query(dsn: str, query: str) -> str:
    return f"{dsn}{'&' if '?' in dsn else '?'}{query}"


@pytest.mark.parametrize("query", WORKING)
async def test_what_libpq_understands_works(database: str, query: str) -> None:
    """A parameter that asks for nothing else than what is done anyway is no obstacle."""
    async with new_app(with_query(database, query)) as app:
        assert {} == (await app.jobs.counts()).by_queue


@pytest.mark.parametrize("query", REFUSED)
async def test_what_cannot_be_done_is_named(query: str) -> None:
    """One sentence has the name of the parameter, and nothing else of the string."""
    name, value = query.split("=")
    app = App(with_query(PLACE, query))
    with pytest.raises(ConfigurationError, match=rf"^dsn: the driver cannot do what {name}= asks for: leave") as told:
        await app.open()

    assert not {"geheim", value} & set(str(told.value).replace(":", " ").split())


MISTAKEN = {
    "sslmode=bogus": "sslmode: must be disable, allow",
    "ssl=bogus": "sslmode: must be disable, allow",
    "sslmode=verify-full": "sslmode: verify-ca and verify-full need sslrootcert=",
    "sslnegotiation=bogus": "sslnegotiation: must be postgres or",
    "sslnegotiation=direct": "sslnegotiation: direct needs sslmode=",
    "sslmode=require&ssl_min_protocol_version=bogus": "ssl_min_protocol_version, .*: must be TLSv1,",
    "target_session_attrs=bogus": "target_session_attrs: must be any, primary",
}


@pytest.mark.parametrize("query", MISTAKEN)
async def test_a_parameter_that_is_mistaken_is_named(
    query: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody who wrote `sslmode=verify-full` is told to quote special characters."""
    monkeypatch.setenv("HOME", str(tmp_path))  # no root certificate there
    with pytest.raises(ConfigurationError, match=f"^dsn: {MISTAKEN[query]}") as told:
        await App(with_query(PLACE, query)).open()

    assert not {"geheim", "bogus"} & set(str(told.value).replace(":", " ").split())


def test_the_strings_of_sqlalchemy_and_pydantic_work() -> None:
    """Their URL objects, and the driver's name in the scheme, lead to the same place."""
    url: Any = make_url("postgresql+asyncpg://me:ge%40heim@host:6000/shop?ssl=require")
    dsn: Any = TypeAdapter(PostgresDsn).validate_python(
        "postgresql+asyncpg://me:ge%40heim@host:6000/shop?sslmode=require"
    )
    expected = Address("postgresql://me:ge%40heim@host:6000/shop?sslmode=require")

    assert expected == address_of(text_of(url)) == address_of(text_of(dsn))
    assert expected == address_of("postgresql://me:ge%40heim@host:6000/shop?ssl=true")  # JDBC's
    assert "require" == libpq_of("postgresql://host/shop?ssl=true", "tests", {})["sslmode"]
    assert "postgresql+asyncpg://me:***@host:6000/shop" == without_secrets("postgresql+asyncpg://me:a@b@host:6000/shop")


@pytest.mark.parametrize("given", ["callable", "object"])
async def test_an_app_takes_them(database: str, given: str) -> None:
    """As `dsn=`, or as what a callable returns."""
    url = make_url(database).set(drivername="postgresql+asyncpg")
    async with App(url if given == "object" else lambda: url) as app:
        assert {} == (await app.jobs.counts()).by_queue


@pytest.mark.parametrize(
    "wrong", [5, object(), "host=here dbname=shop", "jdbc:postgresql://here/shop", "mysql://here/x"]
)
async def test_what_is_no_connection_string_is_told(wrong: Any) -> None:
    """With the form that is right, and without what was given."""
    with pytest.raises(ConfigurationError, match=r"^dsn: .*; use the form postgresql://user:password@host"):
        await App(wrong).open()


HOSTS = {
    "postgresql://u@one:1,two:2/d": (("one", 1), ("two", 2)),
    "postgresql://u@one,two/d": (("one", None), ("two", None)),
    "postgresql://u@[::1]:1,two/d": (("::1", 1), ("two", None)),
    "postgresql:///d?host=one,two&port=1,2": (("one", 1), ("two", 2)),
    "postgresql:///d?host=/run/a,two&port=6": (("/run/a", 6), ("two", 6)),
    "postgresql:///d?host=one:1&host=two:2": (("one", 1), ("two", 2)),
    "postgresql://u:p,w@one/d": (),
    "postgresql:///d": (),
}


@pytest.mark.parametrize("dsn", HOSTS)
def test_several_hosts_are_read(dsn: str) -> None:
    """Wherever they stand, with or without their ports; a single one is left to the driver."""
    assert HOSTS[dsn] == address_of(dsn).hosts
