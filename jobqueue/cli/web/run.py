"""`web`: serves the dashboard until a signal ends it."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from jobqueue.app import App
from jobqueue.base.version import VERSION
from jobqueue.cli.loading import load_function, load_tasks
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, Refusal, leave, no_exit
from jobqueue.cli.terminal.first_moments import STOPS, listen_to_stops
from jobqueue.cli.terminal.log_choices import LogFormat, LogLevel, configured_by_user
from jobqueue.cli.terminal.logs import configure
from jobqueue.cli.terminal.lossy import let_stderr_be_lossy
from jobqueue.cli.terminal.safe_text import escaped
from jobqueue.cli.worker.http import address_of, listen

if TYPE_CHECKING:
    from jobqueue.web.address import Address
    from jobqueue.web.dashboard.access.access import Authorize

_SHORTEST_TOKEN = 16
_LONGEST_TOKEN = 1_000
_LAST_MOMENT = 1.0
"""Seconds for what has not ended by itself when all is closed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    target: str | None
    dsn: str | None
    schema: str | None
    http: str
    read_only: bool
    token_file: str | None
    authorize: str | None


def run_web(wish: Wish) -> ExitCode:
    """Serve it; OK once a signal has ended it. Raises Refusal, and what the user's own code raises."""
    from jobqueue.web.dashboard.create import create_app  # here: it needs the extra, and says so
    from jobqueue.web.serving import serve

    let_stderr_be_lossy()
    address = address_of(wish.http)
    token = _checked(wish, address)
    place = Place.of(wish.target, wish.dsn, wish.schema)
    app = _app_of(place, wish.target)
    authorize = _authorize(wish, token, app)
    site = create_app(app, authorize=authorize, read_only=wish.read_only)
    sockets = listen(address)
    _set_up_logging()
    _announce(app, wish, address, sockets)

    async def run() -> None:
        try:
            await serve(site, sockets, _stops())
        finally:
            listen_to_stops(signal.SIG_IGN)  # what is left is short
            await app.close()
            _end_soon()

    with no_exit("in the dashboard"), _led_to(app, wish.dsn), asyncio.Runner() as runner:
        runner.run(run())
    return ExitCode.OK


def _checked(wish: Wish, address: "Address") -> str | None:
    """The token, if one is to be asked for. Raises Refusal for what would be open to everybody."""
    if wish.token_file and wish.authorize:
        raise Refusal("--token-file and --authorize: give one of them", ExitCode.USAGE)
    if wish.token_file:
        return _read_token(wish.token_file)
    if not wish.authorize and not _is_local(address):
        raise Refusal(
            f"--http: others can reach {address}, and nobody would be asked who they are: give --token-file or "
            "--authorize, or serve it at 127.0.0.1 and come through a tunnel (ssh -L 8080:localhost:8080 host)",
            ExitCode.USAGE,
        )
    return None


def _is_local(address: "Address") -> bool:
    from jobqueue.web.dashboard.access.loopback import is_loopback

    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return is_loopback(address.host)  # it will be said that there is no such host
    return all(is_loopback(str(place[0])) for _, _, _, _, place in found)


def _read_token(file: str) -> str:
    try:
        token = Path(file).read_text(encoding="ascii").strip()
    except OSError as error:
        raise Refusal(f"--token-file: cannot read {file}: {error.strerror}") from None
    except ValueError:
        raise Refusal(f"--token-file: {file} must have letters, digits and signs of ASCII only") from None
    if not _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN or any(not "!" <= sign <= "~" for sign in token):
        raise Refusal(
            f"--token-file: {file} must have one token of {_SHORTEST_TOKEN} to {_LONGEST_TOKEN} characters without "
            "spaces, such as `openssl rand -hex 32` makes"
        )
    return token


def _app_of(place: Place, target: str | None) -> App:
    """The App with its tasks; or one without, on the database that is named."""
    if place.app is None:
        return App(place.dsn, schema=place.schema)
    if place.schema != place.app.schema:
        raise Refusal(f"--schema: that of the App is {place.app.schema}; name no App, and give --dsn", ExitCode.USAGE)
    load_tasks(place.app, target or "", needed=False)
    return place.app


def _authorize(wish: Wish, token: str | None, app: App) -> "Authorize | None":
    from jobqueue.web.dashboard.entrance.login import TokenGate

    if token is not None:
        return TokenGate(token, app.name)
    if wish.authorize:
        return cast("Authorize", load_function("--authorize", wish.authorize))
    return None


@contextlib.contextmanager
def _led_to(app: App, dsn: str | None) -> Iterator[None]:
    """`--dsn` goes before the App's own."""
    with app.override(dsn=dsn) if dsn is not None else contextlib.nullcontext():
        yield


def _set_up_logging() -> None:
    if not configured_by_user():
        configure(LogFormat.CONSOLE, LogLevel.INFO)
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # what fails we say ourselves, without the text


def _announce(app: App, wish: Wish, address: "Address", sockets: list[socket.socket]) -> None:
    port = sockets[0].getsockname()[1]
    who = "whoever has the token" if wish.token_file else f"{wish.authorize} says who may do what"
    if not wish.token_file and not wish.authorize:
        who = "browsers on this machine"
    lines = (
        f"jobqueue {VERSION}, dashboard of {app.name}",
        f"  open  http://{type(address)(address.host, port)}/",
        f"  for   {who}{', for looking only' if wish.read_only else ''}",
        "  end   Ctrl-C",
    )
    sys.stderr.write("".join(f"{escaped(line)}\n" for line in lines))
    sys.stderr.flush()


def _end_soon() -> None:
    """Whatever hangs yet, such as a thread in which `authorize` was asked, does not keep the process."""
    last = threading.Timer(_LAST_MOMENT, leave, [ExitCode.OK])
    last.daemon = True
    last.start()


def _stops() -> list[int]:
    return [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
