"""Where a model comes from: pinned open weights, or a server that is asked."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from modelsmith.schema.base import Digest, Frozen, ServedName, Slug

MODEL_URI = (
    r"^(package://[A-Za-z_][A-Za-z0-9_]{0,99}/[^\x00-\x1f]+"
    r"|file://[^\x00-\x1f]+"
    r"|hf://[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}@[A-Za-z0-9_./-]{1,200})$"
)


class Chat(Frozen):
    """How a model is spoken to, and where its answer begins: what its chat template and its habits call for.

    It shapes every answer, so it belongs to the identity of a run.
    """

    system: Literal["role", "first-user"] = "role"
    """How the set's system prompt is given: as a message of the role ``system``, or, where the model's template has no
    such role (Gemma), before the text of the first message of the user."""
    thinking: Literal["keep", "off", "strip"] = "keep"
    """What becomes of thoughts that a model writes before its answer. ``keep``: nothing, all text is the answer.
    ``off``: the template is told not to let it think. ``strip``: it thinks, and what follows the last `end` is the
    answer; where it never gets there, there is no answer, and the completion was cut off."""
    switch: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")] = "enable_thinking"
    """The template's keyword that ``off`` sets to false."""
    begin: Annotated[str, Field(min_length=1, max_length=64)] = "<think>"
    """Mark before the thoughts."""
    end: Annotated[str, Field(min_length=1, max_length=64)] = "</think>"
    """Mark between thoughts and answer."""


class BaseModelSource(Frozen):
    """Open weights, pinned by their digest, and where they come from."""

    name: Slug
    """Name shown to people."""
    uri: Annotated[str, Field(pattern=MODEL_URI, max_length=1024)]
    """``package://<python package>/<path>`` or ``file://<path>`` (a GGUF file or a safetensors folder), or
    ``hf://org/name@revision``."""
    digest: Digest
    """SHA-256 of the weights: of the GGUF file, or of the folder's ``SHA256SUMS`` listing."""
    license: str
    """SPDX id of the weights' licence."""
    chat: Chat = Chat.defaults()
    """How it is spoken to."""


SamplingSetting = Literal["temperature", "top_p", "seed"]


class TokenPrices(Frozen):
    """Prices of a server's tokens, in the cluster's currency."""

    prompt_per_million: Annotated[float, Field(ge=0)] = 0.0
    completion_per_million: Annotated[float, Field(ge=0)] = 0.0


class Endpoint(Frozen):
    """A server with an OpenAI-compatible ``/chat/completions``: vLLM, Groq, Fireworks, a team's own."""

    url: Annotated[str, Field(pattern=r"^https?://[^/?#\s@]+(/[^?#\s]*)?$")]
    """Base URL up to and with the version (``https://host/v1``); no identity depends on it. No user, no password."""
    model: ServedName
    """Name by which the server knows the model."""
    key_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = None
    """Environment variable that holds the key; no key is sent when not set. A key itself never stands in a file."""
    max_connections: Annotated[int, Field(ge=1, le=1024)] = 32
    """Most requests under way at once; fewer while the server answers 429 or 503."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 120.0
    """Longest wait for one answer."""
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 6
    """How often one prompt is sent before it counts as failed."""
    stream: bool = False
    """Ask for a stream, to measure the time to the first token."""
    omit: tuple[SamplingSetting, ...] = ()
    """Settings of the sampling that this server refuses (OpenAI's reasoning models take only temperature 1): they are
    not sent, the server samples as it likes, and the evidence says so."""
    prices: TokenPrices = TokenPrices.defaults()
    chat: Chat = Chat.defaults()
    """How its model is spoken to; ``thinking: off`` is sent as ``chat_template_kwargs``, which vLLM and SGLang know."""


def _free_name(name: str) -> str:
    if name == "base" or name.startswith("iter-"):
        raise ValueError("names the base model or a specialist")
    return name


class Baseline(Frozen):
    """A frontier or incumbent model that candidates are compared with on the same set; it is never promoted."""

    name: Annotated[Slug, AfterValidator(_free_name)]
    """What ``modelsmith eval --model`` calls it; not ``base``, and not beginning with ``iter-``."""
    endpoint: Endpoint


class TeacherModel(Frozen):
    """A model that writes practice rows: pinned weights, or an endpoint."""

    name: Slug
    base_model: BaseModelSource | None = None
    endpoint: Endpoint | None = None
    """Exactly one of the two."""
    max_new_tokens: Annotated[int, Field(ge=16, le=4096)] = 512
    """Longest text that it writes."""
    temperature: Annotated[float, Field(ge=0.01, le=2)] = 0.8
    """Temperature with which it writes prompts; it answers them greedily."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.base_model is None) == (self.endpoint is None):
            raise ValueError("give either base_model or endpoint")
        return self


class JudgeModel(Frozen):
    """The model that decides judged rubric points: pinned weights, or an endpoint."""

    name: Slug
    base_model: BaseModelSource | None = None
    endpoint: Endpoint | None = None
    """Exactly one of the two."""
    labels: str | None = None
    """Path, in the eval set's folder, of answers that people labelled (``labels/<name>.yaml``); the judge's agreement
    with them is measured."""
    min_kappa: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Least agreement (Cohen's kappa) with the labels; below it the verdict is INCONCLUSIVE."""
    max_new_tokens: Annotated[int, Field(ge=16, le=4096)] = 256
    """Tokens for the reason and the verdict."""
