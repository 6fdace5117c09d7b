"""``serve.yaml``: which backends this machine has. It is the machine's own file: no commit reaches it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from modelsmith.repository.document import MAX_BYTES
from modelsmith.repository.workspace import Workspace
from modelsmith.repository.yamlfile import parse_yaml
from modelsmith.schema.base import Frozen, ServedName, Slug
from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.key_named import key_named
from modelsmith.schema.plain_file import read_own, read_plain
from modelsmith.schema.source import SamplingSetting
from modelsmith.substrates.endpoint.allowed import is_loopback, origin

FILE = "serve.yaml"
OTHERS = "others"
"""Whose price it is who has none of their own; no specialist has this name."""
Url = Annotated[str, Field(pattern=r"^https?://[^/?#\s@]+(/[^?#\s]*)?$")]


class Embedded(Frozen):
    """This process computes the answers, one after the other: for trying things out."""

    engine: Literal["embedded"] = "embedded"
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads; all cores when not set."""
    prompt_tokens: Annotated[int, Field(ge=1)] = 2048
    """Longest request, with the system prompt. While a request is read nobody can stop it, and all others wait: 2,300
    tokens took a model of 135 million weights 23 s of processor time, 4,600 took it 44 s."""


class Price(Frozen):
    """Prices of a million tokens, in whatever currency this machine's figures are read."""

    input: Annotated[float, Field(ge=0, le=1e9)]
    output: Annotated[float, Field(ge=0, le=1e9)]


class Server(Frozen):
    """A server with OpenAI's API."""

    engine: Literal["vllm", "openai"]
    """``vllm``: adapters are loaded into it under their digest's name, so it must see the artifact store; it runs with
    ``--enable-lora`` and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``. ``openai``: any other; it has its models already."""
    url: Url
    """Base URL up to and with the version (``https://host/v1``)."""
    key_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = None
    """Environment variable that holds its key."""
    models: dict[str, ServedName] = {}
    """By which names it knows ``base`` and the specialists. Of a server that is not vLLM nobody can check the weights:
    whoever writes a name here says that they are the specialist's."""
    urls: dict[str, Url] = {}
    """By specialist, another server of the same kind that has it, as vLLM needs one of its own for each export."""
    shadow_url: Url | None = None
    """Another server of the same kind, for who is in the shadow: nobody has approved those weights yet, and there they
    can bring down nothing that serves."""
    prices: dict[str, Price] = {}
    """What its tokens cost, by ``base`` or specialist; ``others`` is for whoever is not named. None: nobody counts it.
    """
    omit: tuple[SamplingSetting, ...] = ()
    """Settings of the sampling that it refuses."""

    def price(self, specialist: str) -> Price | None:
        """Prices of a specialist's tokens."""
        return self.prices.get(specialist, self.prices.get(OTHERS))


class Limits(Frozen):
    """Upper limits of what the door accepts at the same time."""

    body_bytes: Annotated[int, Field(ge=1024, le=64 << 20)] = 1 << 20
    body_seconds: Annotated[float, Field(gt=0)] = 30.0
    """Longest time for a request's body to come, and for a caller to take a piece of the answer."""
    at_once: Annotated[int, Field(ge=1, le=100_000)] = 512
    """Requests under way; the embedded engine computes one of them at a time."""
    waiting: Annotated[int, Field(ge=0, le=100_000)] = 1024
    """Further requests that wait for their turn; the next one is told 429."""
    wait_seconds: Annotated[float, Field(gt=0)] = 30.0
    """Longest wait for a turn."""
    checked_at_once: Annotated[int, Field(ge=0, le=10_000)] = 64
    """Answers under way whose format is looked at when they are whole, each of at most 1 MiB; 0: of none."""
    shadows_at_once: Annotated[int, Field(ge=0, le=1000)] = 8
    """Copies of one cluster's requests under way, for a specialist that is not deployed yet; others are not copied. 0:
    none."""
    shadows_in_all: Annotated[int, Field(ge=1, le=10**9)] = 100_000
    """Copies for one specialist, by what this clone has counted: then it is asked no more, whoever pays for it."""
    silence_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest wait for the next piece of a backend's answer."""
    total_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Longest answer."""


class Settings(Frozen):
    """The file. Without one, the embedded engine answers for every cluster."""

    backends: dict[Slug, Annotated[Embedded | Server, Field(discriminator="engine")]] = {}
    """By cluster; the embedded engine answers for one that is not named."""
    limits: Limits = Limits()


def load_settings(workspace: Workspace, path: Path | None) -> Settings:
    """The machine's settings: of ``path``, else of ``serve.yaml`` in `MODELSMITH_HOME` where there is one.

    Raises:
        InvalidInput: ``invalid-file``, ``missing-file``; ``settings-in-clone`` for a file of the work tree, where a
            commit could have put it; ``others-may-write`` for the home's own file; ``endpoint-not-encrypted``,
            ``key-missing``, ``key-unusable``.
        OSError: a pipe, a socket or a device lies there, or it cannot be read.
    """
    file = path or workspace.home / FILE
    private = workspace.private.resolve()
    real = file.resolve()
    if real.is_relative_to(workspace.root.resolve()) and not real.is_relative_to(private):
        raise InvalidInput(
            "settings-in-clone",
            f"{file} lies in the work tree, where a commit could have put it",
            f"Keep it outside, such as at {workspace.home / FILE}.",
            path=str(file),
        )
    try:
        data = read_plain(file, MAX_BYTES + 1) if path else read_own(file, MAX_BYTES + 1)
        settings = parse_yaml(str(file), data, Settings)
    except FileNotFoundError:
        if path is None:
            return Settings()
        raise InvalidInput("missing-file", f"There is no file {file}", "Correct the path.", path=str(file)) from None
    for backend in settings.backends.values():
        if isinstance(backend, Server):
            _check(backend)
    return settings


def key_of(server: Server) -> str | None:
    """The server's key, from the environment.

    Raises:
        InvalidInput: ``key-missing``, ``key-unusable``.
    """
    return key_named(server.key_env, os.environ) if server.key_env else None


def _check(server: Server) -> None:
    for url in (server.url, *server.urls.values(), *filter(None, [server.shadow_url])):
        where = origin(url) or ""
        host = where.partition("://")[2].rpartition(":")[0] or where.partition("://")[2]
        if not where.startswith("https://") and not is_loopback(host.strip("[]")):
            raise InvalidInput(
                "endpoint-not-encrypted",
                f"The backend {where or url!a} would be asked over an unencrypted connection",
                "Write https://; http:// is for this machine's own loopback only.",
                where=where,
            )
    key_of(server)
