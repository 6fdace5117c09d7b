"""What can go wrong with an endpoint, in the product's words, and what then happens to the prompt and to the batch.

No message and no detail quotes the server: its words may repeat the key, the address or a held-out prompt. They name
the HTTP status and the server's own error code, where it looks like one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from modelsmith.schema.errors import InfrastructureFailure, InvalidInput, ModelsmithError
from modelsmith.schema.source import SamplingSetting
from modelsmith.substrates.endpoint.retries import retry_after

_CAPACITY = frozenset({429, 503, 529})
_PASSING = frozenset({408, 409, 425}) | _CAPACITY
_TOO_LONG = re.compile(r"context.{0,20}length|maximum.{0,20}(context|tokens)|too (long|many tokens)", re.IGNORECASE)
SETTINGS: tuple[str, ...] = get_args(SamplingSetting)
_NAMES = "|".join(SETTINGS)
_UNSUPPORTED = re.compile(
    rf"unsupported (?:value|parameter)\W+({_NAMES})\b"
    rf"|\b({_NAMES})\b.{{0,40}}(?:not supported|deprecated|unsupported|not permitted|cannot both)",
    re.IGNORECASE,
)
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")


@dataclass(frozen=True)
class Failure:
    """One request that brought no answer."""

    error: ModelsmithError
    then: Literal["retry", "give-up", "stop"]
    """Send the prompt again; count it as failed for good; or stop the batch, since every prompt would fail alike."""
    pushed_back: bool = False
    """The server has no capacity: fewer requests at once."""
    after: float | None = None
    """Seconds that the server asked everyone to wait."""


def malformed(reason: str) -> Failure:
    """The server answered, but not with a chat completion."""
    return Failure(
        InfrastructureFailure(
            "endpoint-malformed",
            f"The endpoint's answer is no chat completion: {reason}.",
            "Check that the endpoint's URL ends with the API's version and that the server is OpenAI-compatible.",
            reason=reason,
        ),
        "retry",
    )


def truncated() -> Failure:
    """A stream that ended before its last word."""
    return Failure(
        InfrastructureFailure(
            "endpoint-truncated",
            "The endpoint's answer breaks off before its end.",
            "Run again; if it stays, look at the server's log or at the proxy before it.",
        ),
        "retry",
    )


def withheld(finish: str) -> Failure:
    """The server kept the answer back; that says nothing about the model."""
    return Failure(
        InfrastructureFailure(
            "endpoint-withheld",
            "The endpoint withheld the answer.",
            "Switch the provider's content filter off for this key, or ask another endpoint.",
            finish=finish,
        ),
        "give-up",
    )


def too_large(limit: int) -> Failure:
    """More bytes than any answer has."""
    return Failure(
        InfrastructureFailure(
            "endpoint-answer-too-large",
            f"The endpoint's answer is larger than {limit // 2**20} MiB.",
            "Check that the endpoint's URL is that of a chat server, and lower sampling.max_new_tokens.",
        ),
        "give-up",
    )


def timed_out(seconds: float) -> Failure:
    """Failure: no whole answer came in time."""
    return Failure(
        InfrastructureFailure(
            "endpoint-timeout",
            f"The endpoint gave no answer within {seconds:g} s.",
            "Raise the endpoint's timeout_seconds, or lower its max_connections.",
            seconds=seconds,
        ),
        "retry",
    )


def unreachable(reason: str, name: str) -> Failure:
    """The connection could not be made, or broke. The endpoint is named as governed files do, never by its address."""
    return Failure(
        InfrastructureFailure(
            "endpoint-down",
            f"The endpoint of {name} cannot be reached, or breaks the connection.",
            "Start the server or check the endpoint's URL and the network, then run the same command again.",
            reason=reason,
        ),
        "retry",
    )


def two_models() -> Failure:
    """Answers of two models are no eval of either."""
    return Failure(
        InfrastructureFailure(
            "endpoint-model-changed",
            "The endpoint answered with two different models.",
            "Name the exact version in the endpoint's model, and run again under a new tag.",
        ),
        "stop",
    )


def of_status(
    status: int, headers: Mapping[str, str], body: bytes, *, model: str, key_env: str | None, now: float
) -> Failure:
    """The failure that an HTTP status other than 200 stands for.

    Args:
        status: The status.
        headers: The answer's headers, looked up without regard to case.
        body: The answer, as far as it was read.
        model: The model that was asked for.
        key_env: The environment variable that holds the key.
        now: Seconds since the epoch, for a ``Retry-After`` that is a date.
    """
    error_body = _error_body(body)
    facts = {"status": status} | ({"server_code": error_body.code} if error_body.code else {})
    if status in (401, 403):
        return Failure(_wrong_key(key_env, facts), "stop")
    if status == 404:
        return Failure(
            InvalidInput(
                "endpoint-unknown-model",
                f"The endpoint does not know the model {model[:100]!a}, or has no chat completions at this address.",
                "Correct the endpoint's model and url in the cluster file; the url ends with the API's version.",
                **facts,
            ),
            "stop",
        )
    if status == 402 or error_body.code == "insufficient_quota":
        return Failure(
            InfrastructureFailure(
                "endpoint-quota",
                "The endpoint's account has nothing left to spend.",
                "Top up the account or raise its limit, then run the same command again.",
                **facts,
            ),
            "stop",
        )
    if 300 <= status < 400:
        return Failure(
            InvalidInput(
                "endpoint-redirect",
                "The endpoint sends its callers to another address; the key does not follow.",
                "Put the final address into the endpoint's url.",
                **facts,
            ),
            "stop",
        )
    if not 300 <= status < 600:
        return _no_answer(status, facts)
    if status in _PASSING or status >= 500:
        busy = status in _CAPACITY
        return Failure(
            InfrastructureFailure(
                "endpoint-busy" if busy else "endpoint-error",
                f"The endpoint {'has no capacity: it' if busy else 'failed: it'} answered with status {status}.",
                "Run the same command again later; fewer max_connections help when it is overloaded."
                if busy
                else "Run the same command again later; if it stays, look at the server's log.",
                **facts,
            ),
            "retry",
            pushed_back=status in _CAPACITY,
            after=retry_after(headers.get("Retry-After"), now),
        )
    if status == 413 or (
        status in (400, 422) and (error_body.code == "context_length_exceeded" or error_body.too_long)
    ):
        return Failure(
            InvalidInput(
                "prompt-too-long",
                "The prompt with its answer exceeds the endpoint's context.",
                "Shorten the scenario, or lower sampling.max_new_tokens.",
                **facts,
            ),
            "give-up",
        )
    if status in (400, 422) and error_body.setting:
        return Failure(
            InvalidInput(
                "endpoint-refused-setting",
                f"The endpoint refuses the {error_body.setting} that the eval set samples with.",
                f"Add `omit: [{error_body.setting}]` to the endpoint in the cluster file; then it samples as it likes, "
                "and the evidence says so. Or ask another model.",
                **facts,
            ),
            "stop",
        )
    return Failure(
        InfrastructureFailure(
            "endpoint-refused",
            f"The endpoint refused the request with status {status}"
            f"{'' if error_body.spoke else ', and does not say why'}.",
            "Look at the server's log: it may not accept one of temperature, top_p, seed or the length of the answer."
            if error_body.spoke and status in (400, 422)
            else "Look at the log of the server, or of a proxy before it, and check the endpoint's url and model.",
            **facts,
        ),
        "give-up",
    )


def _no_answer(status: int, facts: Mapping[str, Any]) -> Failure:
    """A status that says neither yes nor no: success without a completion, or a number that HTTP does not know."""
    successful = status < 300
    return Failure(
        InfrastructureFailure(
            "endpoint-malformed",
            f"The endpoint answered with status {status}, "
            + ("which brings no chat completion." if successful else "which HTTP does not know."),
            "Check that the endpoint's URL ends with the API's version and that the server is OpenAI-compatible"
            + ("." if successful else "; a guard or proxy before it may answer in its place."),
            **facts,
        ),
        "give-up",
    )


def wants_other_limit(status: int, body: bytes) -> bool:
    """Whether the server refuses ``max_tokens`` and wants ``max_completion_tokens`` in its place."""
    return status in (400, 422) and b"max_completion_tokens" in body


def in_a_row(failed: int, last: ModelsmithError, name: str) -> ModelsmithError:
    """Why the batch ends before its last prompt was sent; ``name`` says whose endpoint it is."""
    if last.code == "endpoint-down":
        return last
    return InfrastructureFailure(
        "endpoint-failing",
        f"{failed} prompts in a row to the endpoint of {name} failed for good, the last because: {last.message} "
        "The rest was not sent.",
        last.mend,
        failed=failed,
        last=last.envelope(),
        **{name: last.details[name] for name in ("endpoint", "model") if name in last.details},
    )


@dataclass(frozen=True)
class _ErrorBody:
    code: str | None
    too_long: bool
    setting: str | None
    """The setting of the sampling that it will not have."""
    spoke: bool
    """Whether it said anything that a machine can read."""


def _error_body(body: bytes) -> _ErrorBody:
    """Code and message of a server's error object."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, list) and document:
        document = document[0]
    error = document.get("error", document) if isinstance(document, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        return _ErrorBody(None, False, None, False)
    code = next((c for c in (error.get("code"), error.get("type")) if isinstance(c, str) and _CODE.fullmatch(c)), None)
    message = error.get("message")
    words = message[:2000] if isinstance(message, str) else ""
    return _ErrorBody(code, _TOO_LONG.search(words) is not None, _setting(error, words), bool(error))


def _setting(error: Mapping[str, Any], words: str) -> str | None:
    """The setting that is refused: by OpenAI's ``param``, by FastAPI's ``detail``, or by the words."""
    if error.get("param") in SETTINGS:
        return str(error["param"])
    detail = error.get("detail")
    for entry in detail if isinstance(detail, list) else ():
        place = entry.get("loc") if isinstance(entry, dict) else None
        if isinstance(place, list) and place and place[-1] in SETTINGS:
            return str(place[-1])
    match = _UNSUPPORTED.search(words)
    return next(filter(None, match.groups()), None) if match else None


def _wrong_key(key_env: str | None, facts: Mapping[str, Any]) -> ModelsmithError:
    if key_env is None:
        return InvalidInput(
            "endpoint-key",
            "The endpoint wants a key, and the cluster file names none.",
            "Set the endpoint's key_env to the name of an environment variable, and put the key there.",
            **facts,
        )
    return InvalidInput(
        "endpoint-key",
        f"The endpoint does not accept the key in {key_env}.",
        f"Put a valid key for this endpoint and model into the environment variable {key_env}.",
        **facts,
    )
