"""`limits`: change one for all workers, take that back, count its places anew."""

import re
from dataclasses import asdict

from jobqueue.base.flows.limit import LimitStats, Rate
from jobqueue.cli.limits.look import asked
from jobqueue.cli.moments import seconds
from jobqueue.cli.place import Place
from jobqueue.cli.terminal.failures import ExitCode, Refusal, as_usage
from jobqueue.cli.terminal.output import write, write_json
from jobqueue.cli.terminal.user import this_user


def rate_of(text: str | None, burst: int | None) -> Rate | None:
    """The rate of `100/60`, `5/1s` or `1000/1h`. Raises Refusal."""
    if text is None:
        if burst is not None:
            raise Refusal("--burst: is part of a rate; give --rate too", ExitCode.USAGE)
        return None
    found = re.fullmatch(r"(\d{1,7})/(.+)", text, re.ASCII)
    per = seconds("--rate", found[2]) if found else None
    if found is None or per is None:
        raise Refusal(
            f"--rate: must be a number and a time such as 100/60, 5/1s or 1000/1h, not {text!r}", ExitCode.USAGE
        )
    with as_usage(count="--rate", per="--rate", burst="--burst"):
        return Rate(int(found[1]), per, 1 if burst is None else burst)


def change_limit(place: Place, name: str, concurrency: int | None, rate: Rate | None, as_json: bool) -> ExitCode:
    """From now on it is this, for all workers."""
    if concurrency is None and rate is None:
        raise Refusal("limits set: say what is to be changed, with --concurrency, --rate, or both", ExitCode.USAGE)
    limit = asked(place, lambda limits: limits.set(name, concurrency=concurrency, rate=rate, by=this_user()))
    return _tell(limit, "until `limits reset`; what runs goes on", as_json)


def reset_limit(place: Place, name: str, as_json: bool) -> ExitCode:
    """It is as declared again."""
    limit = asked(place, lambda limits: limits.reset(name, by=this_user()))
    return _tell(limit, "as its code says", as_json)


def recount_limit(place: Place, name: str, as_json: bool) -> ExitCode:
    """Its places are as many as its jobs hold."""
    wrong = asked(place, lambda limits: limits.recount(name, by=this_user()))
    if as_json:
        write_json({"limit": name, "corrected": wrong})
    elif wrong:
        where = f"{wrong} {'key' if wrong == 1 else 'keys'}"
        write(f"limit {name}: the number of places was wrong at {where}, and is right now")
    else:
        write(f"limit {name}: the number of places was right")
    return ExitCode.OK


def _tell(limit: LimitStats, how: str, as_json: bool) -> ExitCode:
    if as_json:
        write_json(asdict(limit))
    else:
        said = [] if limit.concurrency is None else [f"{limit.concurrency} at once"]
        said += [] if limit.rate is None else [str(limit.rate)]
        write(f"limit {limit.name} is {' and '.join(said)}, {how}")
    return ExitCode.OK
