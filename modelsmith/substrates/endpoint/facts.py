"""What is known of a server's model from the cluster file alone, told without asking it."""

from __future__ import annotations

from modelsmith.schema.canonical import digest
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.source import Endpoint


def endpoint_facts(endpoint: Endpoint) -> EngineFacts:
    """Facts of the engine behind an endpoint: nothing of it can be pinned but the name of its model."""
    return EngineFacts(
        substrate="openai",
        version=endpoint.model,
        dtype="unknown",
        device="remote",
        weights="unknown",
        omitted=endpoint.omit,
        chat=endpoint.chat,
    )


def unknown_weights(endpoint: Endpoint) -> str:
    """What stands for the weights of a server's model: the digest of its name and of the word that they are unknown."""
    return digest({"model": endpoint.model, "weights": "unknown"})
