"""Which servers may be asked and which keys they get: one spelling of an origin, and what counts as this machine."""

from __future__ import annotations

import pytest

from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.source import Endpoint
from modelsmith.substrates.endpoint.allowed import ENVIRONMENT, entries, is_loopback, origin, require_allowed


def allowed(url: str, key_env: str | None, *settings: str, environment: str = "") -> bool:
    endpoint = Endpoint(url=url, model="m", key_env=key_env)
    try:
        require_allowed(endpoint, entries(settings, {ENVIRONMENT: environment}))
    except InvalidInput:
        return False
    return True


@pytest.mark.parametrize(
    ("url", "key", "settings", "ok"),
    [
        ("https://llm.example.org/v1", "LLM_KEY", ("https://llm.example.org LLM_KEY",), True),
        ("https://LLM.example.org:443/v1", "LLM_KEY", ("https://llm.example.org/v1 LLM_KEY",), True),
        ("https://llm.example.org/v1", None, ("https://llm.example.org LLM_KEY",), True),
        ("https://llm.example.org/v1", "OTHER_KEY", ("https://llm.example.org LLM_KEY",), False),
        ("https://llm.example.org:8443/v1", "LLM_KEY", ("https://llm.example.org LLM_KEY",), False),
        ("https://llm.example.org.evil.example/v1", None, ("https://llm.example.org",), False),
        ("http://llm.example.org/v1", None, ("http://llm.example.org",), False),
        ("https://evil.example/v1", None, (), False),
        ("http://127.0.0.1:8000/v1", None, (), True),
        ("http://localhost:8000/v1", None, (), True),
        ("http://[::1]:8000/v1", None, (), True),
        ("http://127.0.0.1:8000/v1", "AWS_SECRET_ACCESS_KEY", (), False),
        ("http://127.0.0.1:8000/v1", "LLM_KEY", ("http://127.0.0.1:8000 LLM_KEY",), True),
        ("http://127.0.0.1.evil.example/v1", None, (), False),
        ("http://127.evil.example/v1", None, (), False),
        ("http://2130706433/v1", None, (), False),
        ("http://localhost.evil.example/v1", None, (), False),
        ("https://llm.example.org\\.evil.example/v1", None, ("https://llm.example.org",), False),
    ],
)
def test_a_server_is_asked_and_gets_a_key_only_with_leave(url, key, settings, ok):
    assert allowed(url, key, *settings) is ok


def test_leave_may_stand_in_the_environment():
    both = "https://a.example A_KEY,https://b.example B_KEY"
    assert allowed("https://b.example/v1", "B_KEY", environment=both)
    assert not allowed("https://b.example/v1", "A_KEY", environment=both)


@pytest.mark.parametrize("setting", ["llm.example.org", "https://", "https://a.example KEY more", "ftp://a.example"])
def test_a_setting_that_allows_nothing_is_said(setting):
    with pytest.raises(InvalidInput, match="allows no endpoint"):
        entries((setting,), {})


def test_one_origin_has_one_spelling():
    assert origin("HTTPS://Llm.Example.org:443/v1") == "https://llm.example.org"
    assert origin("https://user@llm.example.org") is None
    assert not is_loopback("127.evil.example")
