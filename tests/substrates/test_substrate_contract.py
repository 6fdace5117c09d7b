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


def bookish(request: Seen) -> Reply:
    """A server whose model writes words that depend on all that it was asked, and has a context of some words."""
    words = [word for message in request.body["messages"] for word in message["content"].split()]
    if len(words) + request.body["max_tokens"] > CONTEXT:
        return refusal(400, "context_length_exceeded", f"maximum context length is {CONTEXT} tokens")
    drawn = request.body["seed"] if request.body["temperature"] else 0
    digest_text = hashlib.sha256(json.dumps([words, drawn]).encode()).hexdigest()
    count = min(request.body["max_tokens"], 6)
    usage = {"prompt_tokens": len(words), "completion_tokens": count}
    finish = "length" if count == request.body["max_tokens"] else "stop"
    if not request.body.get("stream"):
        return chat(digest_text[:count], finish, usage=usage)
    return stream(*digest_text[:count], finish=finish, usage=usage)


class TestTransformers(SubstrateContract):
    @pytest.fixture(scope="class")
    @classmethod
    def substrate(cls, tiny_model: Path) -> Iterator[TransformersSubstrate]:
        opened_substrate = TransformersSubstrate(tiny_model, None)
        yield opened_substrate
        opened_substrate.close()
        opened_substrate.close()


@pytest.mark.parametrize("streaming", [False, True], scope="class")
class TestEndpoint(SubstrateContract):
    @pytest.fixture(scope="class")
    @classmethod
    def substrate(cls, streaming: bool) -> Iterator[EndpointSubstrate]:
        with StubServer(bookish) as server:
            opened_substrate = EndpointSubstrate(Endpoint(url=server.url, model="stub", stream=streaming))
            yield opened_substrate
            opened_substrate.close()
            opened_substrate.close()
