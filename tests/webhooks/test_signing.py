"""Secrets and signatures."""

from uuid import UUID

import pytest

from jobqueue.base.errors import ConfigurationError, InvalidOption
from jobqueue.webhooks.signing import KEY, secret_in, secret_of, sign, written
from tests.support.receiver import defer, delivered, hooked_app, receiving

HOOK = UUID("01900000-0000-7000-8000-000000000001")


def test_the_vector_of_the_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    """S2-12: what the libraries of Standard Webhooks make of their own example, we make of it."""
    monkeypatch.setenv("RECEIVER_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")

    made = sign([secret_in("RECEIVER_SECRET")], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

    assert "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" == made


def test_secrets_differ_by_webhook_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is always the same for one webhook and number, and tells nothing of another; so with another key."""
    first = secret_of(HOOK, 1)
    others = {secret_of(HOOK, 2), secret_of(UUID(int=1), 1)}

    assert first == secret_of(HOOK, 1)
    assert first not in others
    assert written(first).startswith("whsec_")
    monkeypatch.setenv(KEY, "another key that is long enough, surely")
    assert first != secret_of(HOOK, 1)


@pytest.mark.parametrize("given", [None, "", "short"])
async def test_without_a_key_there_is_no_webhook(
    database: str, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    """One sentence says what is missing, before anything is stored."""
    monkeypatch.delenv(KEY) if given is None else monkeypatch.setenv(KEY, given)
    app = hooked_app(database)
    async with app:
        with pytest.raises(ConfigurationError, match=f"{KEY}: must be set to a random text"):
            await app.webhooks.create("https://receiver.example/")
        assert [] == await app.webhooks.list()


async def test_a_secret_of_the_receiver_s(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that has a secret is signed for with that; the database has only the name of a variable."""
    monkeypatch.delenv(KEY)
    app = hooked_app(database)
    async with app, receiving() as receiver, app.worker():
        with pytest.raises(InvalidOption, match="not the secret itself"):
            await app.webhooks.create(receiver.url, secret_env="whsec_c2VjcmV0/")
        hook = await app.webhooks.create(receiver.url, "job.completed", secret_env="RECEIVER_SECRET")
        with pytest.raises(ConfigurationError, match="RECEIVER_SECRET: must be set"):
            await app.webhooks.secret(hook.id)
        monkeypatch.setenv("RECEIVER_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        with pytest.raises(ConfigurationError, match="change it there"):
            await app.webhooks.rotate(hook.id)
        await defer(app, "note")
        await delivered(app, hook)
        secret = await app.webhooks.secret(hook.id)

    assert "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" == secret
    assert receiver.posts[0].is_signed_by(secret)
