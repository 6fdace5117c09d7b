"""The port's promises, kept by transformers in this process and by an endpoint; vLLM keeps them in its own tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from substrates.stub_server import Reply, Seen, StubServer, chat, refusal, stream
from substrates.substrate_contract import SubstrateContract

from modelsmith.schema.source import Endpoint
from modelsmith.substrates.endpoint.substrate import EndpointSubstrate
from modelsmith.substrates.local import TransformersSubstrate

CONTEXT = 1000


def bookish(seen: Seen) -> Reply:
    """A server whose model writes words that depend on all that it was asked, and has a context of some words."""
    words = [word for message in seen.body["messages"] for word in message["content"].split()]
    if len(words) + seen.body["max_tokens"] > CONTEXT:
        return refusal(400, "context_length_exceeded", f"maximum context length is {CONTEXT} tokens")
    drawn = seen.body["seed"] if seen.body["temperature"] else 0
    written = hashlib.sha256(json.dumps([words, drawn]).encode()).hexdigest()
    count = min(seen.body["max_tokens"], 6)
    usage = {"prompt_tokens": len(words), "completion_tokens": count}
    finish = "length" if count == seen.body["max_tokens"] else "stop"
    if not seen.body.get("stream"):
        return chat(written[:count], finish, usage=usage)
    return stream(*written[:count], finish=finish, usage=usage)


class TestTransformers(SubstrateContract):
    @pytest.fixture(scope="class")
    @classmethod
    def substrate(cls, tiny_model: Path) -> Iterator[TransformersSubstrate]:
        made = TransformersSubstrate(tiny_model, None)
        yield made
        made.close()
        made.close()


@pytest.mark.parametrize("streaming", [False, True], scope="class")
class TestEndpoint(SubstrateContract):
    @pytest.fixture(scope="class")
    @classmethod
    def substrate(cls, streaming: bool) -> Iterator[EndpointSubstrate]:
        with StubServer(bookish) as server:
            made = EndpointSubstrate(Endpoint(url=server.url, model="stub", stream=streaming))
            yield made
            made.close()
            made.close()
