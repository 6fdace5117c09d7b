"""The names of OpenTelemetry's conventions for generative AI, in one place, since the conventions are in development.

They are those of the semantic conventions 1.43, which collectors and dashboards know. A later draft calls some of them
otherwise (``gen_ai.client.inference.*``); whoever follows it changes this module alone.
"""

from __future__ import annotations

from typing import Final

DURATION: Final = "gen_ai.client.operation.duration"
"""Seconds to the end of an answer."""
FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
"""Seconds to the first piece of a stream."""
TOKENS: Final = "gen_ai.client.token.usage"

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_KIND: Final = "gen_ai.token.type"
"""``input`` or ``output``."""
ERROR_TYPE: Final = "error.type"
STATUS: Final = "http.response.status_code"

CHAT: Final = "chat"
"""The operation that the front door answers."""
SECOND: Final = "s"
PIECE: Final = "{token}"

SECONDS: Final = tuple(0.01 * 2**n for n in range(14))
"""Bounds of the buckets of seconds: 0.01 s to 81.92 s."""
COUNTS: Final = tuple(4.0**n for n in range(14))
"""Bounds of the buckets of tokens."""


def in_prometheus(name: str, unit: str = "") -> str:
    """A name as Prometheus writes it: ``gen_ai.client.operation.duration`` is ``..._duration_seconds``."""
    return name.replace(".", "_") + {SECOND: "_seconds"}.get(unit, "")
