"""Every knob of jobqueue, with the one home of its default.

A `Settings` is validated when it is made; the error names the knob. `from_environment` reads `JOBQUEUE_<KNOB>`:
only variables that are really set replace a default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from jobqueue.base.errors import ConfigurationError, InvalidOption
from jobqueue.base.moments import Seconds, check_delay, check_seconds
from jobqueue.base.names import ATTEMPTS, check_whole

_MOST = 2**30
_WHOLE = {
    "concurrency": (1, _MOST), "max_attempts": ATTEMPTS, "max_crashes": ATTEMPTS, "max_payload": (1, _MOST),
    "max_result": (1, _MOST), "prefetch": (0, _MOST),
}  # fmt: skip
_SECONDS = (
    "lease", "beat", "rescue_interval", "poll", "drain_timeout", "aside_max_age", "keep_completed", "keep_other",
    "keep_events", "keep_audit",
)  # fmt: skip
_OFTEN = ("lease", "beat", "rescue_interval", "poll")
_SHORTEST = 0.001
"""Seconds: what is to be done more often is never done, since no answer comes in time."""

Pooler = Literal["none", "session", "transaction"]
Failures = Literal["class", "message", "traceback"]
Completed = Literal["debug", "info"]
Networks: TypeAlias = tuple[str, ...]

_WORDS: dict[str, tuple[object, ...]] = {
    "pooler": get_args(Pooler), "embedded": (True, False),
    "log_failures": (*get_args(Failures), None), "log_completed": (*get_args(Completed), None),
}  # fmt: skip
_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_OTHERS = ("DSN", "HOME", "WEBHOOK_KEY")
"""Variables that are no knobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times are seconds, or given as timedelta; sizes are bytes. Each knob is also `JOBQUEUE_<KNOB>`.

    Pass one to `App(settings=...)`.
    """

    concurrency: int = 50
    """Slots of a worker: how many jobs run at once."""
    prefetch: int | None = None
    """Jobs claimed beyond the free slots. None: as many as this worker ends in 30 ms, at most 1 000, so that quick
    jobs flow, while none of them waits long behind a busy worker."""
    lease: float = 20.0
    """How long a claim holds unless it is renewed."""
    beat: float = 5.0
    """How often a worker renews the claims it holds; the lease is at least three beats."""
    rescue_interval: float = 5.0
    """How often a worker looks for claims whose worker has died, ± 20 %."""
    poll: float = 5.0
    """How often an idle worker looks without being woken, ± 20 %. Notifications are hints, this is the truth."""
    drain_timeout: float = 20.0
    """How long an orderly stop may take in all; platforms usually kill at 30."""
    max_attempts: int = 20
    """Attempts of a job whose task and call do not say."""
    max_crashes: int = 3
    """A job whose worker died so often while it ran is dead. Those runs are not counted as attempts."""
    aside_max_age: float = 7 * 86_400.0
    """After this long as unknown task or unfitting payload a job is dead; 0: at once. Until then it is put aside, for
    a worker that knows it."""
    keep_completed: float = 86_400.0
    """How long completed jobs stay, with their results. Dropped by days (UTC), so it may be up to a day longer, or a
    thirtieth of it if that is more, and is never less than the day after. Whatever looks a job up by its id depends on
    it: a resend with the same id runs again once the archive has forgotten the first, a late `result()` finds nothing.
    Of several workers on one schema the shortest setting counts; a queue can only have a shorter one."""
    keep_other: float = 30 * 86_400.0
    """The same for cancelled and dead jobs."""
    keep_events: float = 3 * 86_400.0
    """How long the log says what became of jobs, for `app.events(after=...)`. By days, as above."""
    keep_audit: float = 90 * 86_400.0
    """How long the audit says who did what, for `app.audit.list()`."""
    max_payload: int = 1 << 20
    """Bytes of one job's arguments as JSON."""
    max_result: int = 1 << 20
    """Bytes of one job's result as JSON."""
    pooler: Pooler = "none"
    """What stands between the app and PostgreSQL, as its `pool_mode` says; an app that finds another refuses to start.
    `session`: limits are set once a connection is open. `transaction`: only our transactions have limits, no LISTEN and
    no prepared statements, workers poll."""

    embedded: bool = True
    """False: an app that is given no connection string is a mistake, and starts no server of its own."""
    log_failures: Failures | None = None
    """What the log says of an attempt that failed. A message may quote the payload; `class` never does. None:
    `traceback` where `worker` writes its log to a terminal, else `class`."""
    log_completed: Completed | None = None
    """The level of the line for each completed job. None: `info` where `worker` writes its log to a terminal."""
    webhook_networks: Networks = ()
    """Where webhooks may lead beyond https to public addresses: `("10.1.0.0/16",)`, with commas in the variable. There
    http is allowed as well. Whoever may set a webhook can then have anything in there called."""

    if TYPE_CHECKING:  # what dataclass makes takes for a knob only what it is kept as

        def __init__(
            self,
            *,
            concurrency: int = ...,
            prefetch: int | None = ...,
            lease: Seconds = ...,
            beat: Seconds = ...,
            rescue_interval: Seconds = ...,
            poll: Seconds = ...,
            drain_timeout: Seconds = ...,
            max_attempts: int = ...,
            max_crashes: int = ...,
            aside_max_age: Seconds = ...,
            keep_completed: Seconds = ...,
            keep_other: Seconds = ...,
            keep_events: Seconds = ...,
            keep_audit: Seconds = ...,
            max_payload: int = ...,
            max_result: int = ...,
            pooler: Pooler = ...,
            embedded: bool = ...,
            log_failures: Failures | None = ...,
            log_completed: Completed | None = ...,
            webhook_networks: Networks = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        for knob, limits in _WHOLE.items():
            _check_whole(knob, getattr(self, knob), limits)
        for knob in _SECONDS:
            object.__setattr__(self, knob, _seconds(knob, getattr(self, knob)))
        for knob in _OFTEN:
            if getattr(self, knob) < _SHORTEST:
                raise ConfigurationError(f"{knob}: must be at least {_SHORTEST:g} s")
        if self.lease < 2.999999 * self.beat:  # 0.3 is less than 3 * 0.1
            raise ConfigurationError(f"lease: must be at least three beats ({3 * self.beat:g} s)")
        for knob, words in _WORDS.items():
            if getattr(self, knob) not in words:
                raise ConfigurationError(f"{knob}: must be one of {', '.join(map(str, words))}")

        _check_networks(self.webhook_networks)

    @property
    def listens(self) -> bool:
        """Whether notifications arrive."""
        return self.pooler != "transaction"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], base: "Settings | None" = None) -> "Settings":
        """`base` (or the defaults) with every `JOBQUEUE_<KNOB>` that is set in `environment`."""
        given: dict[str, Any] = {}
        for knob in fields(cls):
            text = environment.get(variable := f"JOBQUEUE_{knob.name.upper()}")
            if text:
                given[knob.name] = _read(variable, text, knob.name in _WORDS, knob.default)
        _refuse_misspelt(environment, [knob.name.upper() for knob in fields(cls)])
        return replace(base or cls(), **given)


def _check_whole(knob: str, value: int | None, limits: tuple[int, int]) -> None:
    try:
        whole = check_whole(knob, value, limits)
    except InvalidOption as error:
        rule = str(error)
    else:
        if whole is not None or knob == "prefetch":
            return
        rule = f"{knob}: must be a whole number"
    raise ConfigurationError(rule)


def _check_networks(given: object) -> None:
    for network in given if isinstance(given, tuple) else (None,):
        try:
            ip_network(network if isinstance(network, str) else "")
        except ValueError:
            rule = 'must be a tuple of networks, as ("127.0.0.1/32", "10.1.0.0/16")'
            raise ConfigurationError(f"webhook_networks: {rule}") from None


def _seconds(knob: str, given: Seconds) -> float | None:
    try:
        return check_delay(knob, given) if knob == "aside_max_age" else check_seconds(knob, given)
    except InvalidOption as error:
        rule = str(error)
    raise ConfigurationError(rule)


def _refuse_misspelt(environment: Mapping[str, str], knobs: Sequence[str]) -> None:
    """Only what is close to a name of ours: others may have variables that begin like this, as Kubernetes does."""
    for variable in environment:
        name = variable.removeprefix("JOBQUEUE_")
        if name == variable or name in (*knobs, *_OTHERS):
            continue
        anagrams = [known for known in _OTHERS if sorted(known) == sorted(name)]
        if close := get_close_matches(name, knobs, 1, 0.8) or anagrams:
            raise ConfigurationError(f"{variable}: there is no such setting; did you mean JOBQUEUE_{close[0]}?")


def _read(variable: str, text: str, is_word: bool, default: object) -> Any:
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if is_word:
        return _SWITCH.get(text.lower(), text) if isinstance(default, bool) else text
    try:
        return float(text) if isinstance(default, float) else int(text)
    except ValueError:
        raise ConfigurationError(f"{variable}: must be a number, not {text!r}") from None
