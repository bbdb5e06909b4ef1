"""Secrets are told by their names, at any depth."""

from __future__ import annotations

import pytest

from astuner_rl.tracing.redaction import REDACTED, redact


@pytest.mark.parametrize(
    "name",
    ["api_key", "apikey", "API_KEY", "openai_api_key", "hub_token", "token", "password", "secret"],
)
def test_what_has_a_secrets_name_is_taken_out(name: str) -> None:
    settings = {"judge": {name: "sk-123", "model": "m"}, "servers": [{name: "sk-456"}]}
    redacted = redact(settings)
    assert redacted["judge"] == {name: REDACTED, "model": "m"}
    assert "sk-" not in str(redacted)


@pytest.mark.parametrize("name", ["max_tokens", "tokenizer", "key", "monkey", "secretary"])
def test_other_settings_stay(name: str) -> None:
    assert redact({name: "value"}) == {name: "value"}


def test_a_secret_that_is_not_set_shows_so() -> None:
    assert redact({"api_key": None, "password": ""}) == {"api_key": None, "password": ""}
