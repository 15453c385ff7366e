"""TLS: what is wrong with a certificate is said as that, and not as something else."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from jobqueue.base.errors import ConfigurationError
from jobqueue.cli.terminal.failures import in_words
from jobqueue.store.connection.faults import DATABASE_ERRORS
from jobqueue.store.dialing.dial import Dialer


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[str]:
    """Where TLS begins as with PostgreSQL, with a certificate for `elsewhere` that nobody else has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    names = ["-keyout", f"{tmp_path}/key.pem", "-out", f"{tmp_path}/ca.pem", "-subj", "/CN=elsewhere"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names], check=True, capture_output=True
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        try:
            await writer.start_tls(context)
        except OSError:
            writer.transport.abort()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"postgresql://somebody@127.0.0.1:{server.sockets[0].getsockname()[1]}/x?sslmode=verify-full"
    server.close()


async def said(dsn: str) -> str:
    """What the command line says of it."""
    with pytest.raises((ConfigurationError, *DATABASE_ERRORS)) as told:
        await Dialer()(dsn)
    return in_words(told.value, dsn) or ""


async def test_a_refused_certificate_is_told(door: str, tmp_path: Path) -> None:
    """An unknown authority, another host's name and a file that is not there each have their words."""
    gone = tmp_path / "gone.pem"

    assert "certificate was refused (self-signed certificate)" in await said(f"{door}&sslrootcert=system")
    assert "certificate was refused (IP address mismatch" in await said(f"{door}&sslrootcert={tmp_path / 'ca.pem'}")
    assert f"dsn: sslrootcert: there is no file {gone}" == await said(f"{door}&sslrootcert={gone}")
