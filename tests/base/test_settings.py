"""Settings: validated when made, overridden by the environment only where it says something."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from jobqueue.base.errors import ConfigurationError
from jobqueue.base.settings import Settings


def test_the_defaults_are_valid_and_frozen() -> None:
    """The defaults pass their own checks and cannot be changed."""
    settings = Settings()

    with pytest.raises(FrozenInstanceError):
        settings.lease = 1.0  # type: ignore[misc]
    assert (20.0, 5.0, 20) == (settings.lease, settings.beat, settings.max_attempts)


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("concurrency", 0),
        ("concurrency", 1.5),
        ("max_attempts", 0),
        ("max_attempts", 2**15),
        ("max_payload", 0),
        ("max_result", -1),
        ("prefetch", -1),
        ("lease", 0),
        ("lease", float("nan")),
        ("lease", 14),
        ("beat", -1),
        ("beat", 0),
        ("beat", 1e-300),
        ("poll", 0.0009),
        ("rescue_interval", 0),
        ("rescue_interval", float("inf")),
        ("max_crashes", 0),
        ("max_crashes", 2.5),
        ("max_crashes", 2**15),
        ("poll", float("inf")),
        ("drain_timeout", 0),
        ("aside_max_age", -5),
        ("keep_completed", 0),
        ("keep_completed", float("inf")),
        ("keep_other", -1),
        ("keep_other", float("nan")),
        ("pooler", "statement"),
        ("webhook_networks", "127.0.0.1/32"),
        ("webhook_networks", ("receiver.example",)),
        ("webhook_networks", (1,)),
    ],
)
def test_a_bad_knob_is_named(knob: str, value: Any) -> None:
    """Each value out of its limits is refused by an error that begins with the knob's name."""
    with pytest.raises(ConfigurationError, match=f"^{knob}: "):
        Settings(**{knob: value})


@pytest.mark.parametrize("beat", [0.1, 1.0, 5.0, 20.0])
def test_a_lease_is_at_least_three_beats(beat: float) -> None:
    """S4-64, S4-70: with less a claim could end between two beats, so it is refused; beats cannot be turned off."""
    assert Settings(beat=beat, lease=3 * beat).lease == 3 * beat
    with pytest.raises(ConfigurationError, match=r"^lease: must be at least three beats"):
        Settings(beat=beat, lease=2.9 * beat)
    with pytest.raises(ConfigurationError, match=r"^beat: "):
        Settings(beat=0, lease=beat)


def test_the_environment_sets_what_it_names() -> None:
    """JOBQUEUE_<KNOB> replaces base and default; a variable that is empty or unknown replaces nothing."""
    environment = {"JOBQUEUE_CONCURRENCY": "7", "JOBQUEUE_LEASE": "30.5", "JOBQUEUE_POLL": "", "CONCURRENCY": "9"}

    settings = Settings.from_environment(environment, Settings(max_attempts=3, concurrency=5))

    assert Settings(max_attempts=3, concurrency=7, lease=30.5) == settings


def test_every_knob_can_be_set_from_the_environment() -> None:
    """Each knob is read back from the variable that carries its default."""
    others: dict[str, object] = {
        "prefetch": 0,
        "log_failures": "message",
        "log_completed": "info",
        "webhook_networks": "127.0.0.1/32, ::1/128",
    }
    said = {knob.name: getattr(Settings(), knob.name) for knob in fields(Settings)} | others
    environment = {f"JOBQUEUE_{knob.upper()}": str(value) for knob, value in said.items()}

    assert Settings(
        prefetch=0, log_failures="message", log_completed="info", webhook_networks=("127.0.0.1/32", "::1/128")
    ) == Settings.from_environment(environment)


@pytest.mark.parametrize(
    ("variable", "text"), [("JOBQUEUE_CONCURRENCY", "many"), ("JOBQUEUE_CONCURRENCY", "1.5"), ("JOBQUEUE_LEASE", "20s")]
)
def test_a_variable_that_is_no_number_is_named(variable: str, text: str) -> None:
    """An unreadable variable is refused by name."""
    with pytest.raises(ConfigurationError, match=variable):
        Settings.from_environment({variable: text})


def test_a_variable_out_of_limits_is_refused() -> None:
    """The limits hold for the environment too, and the error names the knob."""
    with pytest.raises(ConfigurationError, match="lease"):
        Settings.from_environment({"JOBQUEUE_LEASE": "nan"})
