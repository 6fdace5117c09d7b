"""What a collector of OpenTelemetry is told of each request, where the standard ``OTEL_*`` variables name one.

No request waits for it: a request's end goes into a bounded queue in memory, and a thread of its own makes of it what
is exported. A collector that is down or hangs costs figures, never an answer. Nothing of a prompt, an answer, a
caller's key or a sticky key is told.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from modelsmith.door.ended import SIGNALS, Ended, Signal, Sink

PAUSE: Final = 0.25
"""Seconds between two looks at what is to be told."""
MOST_WAITING: Final = 10_000
"""Requests in memory that nothing was told of yet; further ones are left out."""
CLOSE_SECONDS: Final = 3.0
"""How long the door's end waits for a collector."""
_LONGEST_PARENT: Final = 55


class Telemetry:
    """Takes the ends of requests from any thread and tells the sink of them in its own."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._waiting: deque[Ended] = deque()
        self._ended = threading.Event()
        self._teller = threading.Thread(target=self._tell_on, name="telemetry", daemon=True)
        self._teller.start()

    def note(self, ended: Ended) -> None:
        """Tell of a request, later. Neither waits nor raises."""
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(ended)

    def close(self) -> None:
        """Tell what waits, and end; a collector that does not take it in time is not waited for."""
        self._ended.set()
        self._teller.join(CLOSE_SECONDS)

    def _tell_on(self) -> None:
        while not self._ended.wait(PAUSE):
            self._tell()
        self._tell()
        self._sink.close()

    def _tell(self) -> None:
        for _ in range(len(self._waiting)):
            with suppress(Exception):  # a request that cannot be told is left out; the next one is told
                self._sink.tell(self._waiting.popleft())


def parent_of(headers: list[str], sticky: str | None) -> str:
    """The one ``traceparent`` of a request, unless a rule takes it for its key."""
    parent = headers[0] if len(headers) == 1 else ""
    return parent if len(parent) <= _LONGEST_PARENT and parent != sticky else ""


def open_telemetry(environment: Mapping[str, str], say: Callable[[str], None]) -> Telemetry | None:
    """What the environment asks for; None where it asks for nothing. What cannot be had is said, and stops nothing."""
    signals = tuple(signal for signal in SIGNALS if _is_exported(signal, environment, say))
    if not signals:
        return None
    try:
        from modelsmith.door.otlp import Otlp

        sink = Otlp(signals, say)
    except ModuleNotFoundError:
        say("NOT EXPORTED: OTEL_* asks for telemetry, which needs the otel extra: pip install 'modelsmith[otel]'")
        return None
    except Exception as error:  # a variable that the library cannot read stops no door
        say(f"NOT EXPORTED: OTEL_* cannot be read ({type(error).__name__}); correct it and start the door again")
        return None
    say(f"telemetry: {' and '.join(signals)} are exported by OTLP, as OTEL_* says")
    return Telemetry(sink)


def _is_exported(signal: Signal, environment: Mapping[str, str], say: Callable[[str], None]) -> bool:
    """Whether the standard variables ask for this signal by OTLP: an exporter is named, or an endpoint is."""

    def of(name: str) -> str:
        return environment.get(name, "").strip()

    upper = signal.upper()
    if of("OTEL_SDK_DISABLED").lower() == "true":
        return False
    named = {word.strip() for word in of(f"OTEL_{upper}_EXPORTER").split(",") if word.strip()}
    endpoint = of(f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT") or of("OTEL_EXPORTER_OTLP_ENDPOINT")
    if others := sorted(named - {"otlp", "none"}):
        say(f"NOT EXPORTED: {signal} by {', '.join(others)}; the door knows otlp alone (OTEL_{upper}_EXPORTER)")
    if "otlp" not in named and (named or not endpoint):
        return False
    protocol = of(f"OTEL_EXPORTER_OTLP_{upper}_PROTOCOL") or of("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if protocol != "http/protobuf":
        say(f"NOT EXPORTED: {signal} by the protocol {protocol!a}; set OTEL_EXPORTER_OTLP_PROTOCOL to http/protobuf")
        return False
    return True
