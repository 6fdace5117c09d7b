"""What Prometheus reads of the door beside what the recorder counts. No key, prompt or decision is a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from modelsmith.door.loading import is_of_a_shadow
from modelsmith.door.room import Side

if TYPE_CHECKING:
    from modelsmith.door.follow import Follower
    from modelsmith.door.gate import Gate


class DoorMetrics:
    """A registry of its own: two doors of one process do not share it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._refused = Counter(
            "modelsmith_door_refused", "Requests that got no answer, by code", ["code"], registry=self._registry
        )
        self._down = Counter(
            "modelsmith_door_backend_failures",
            "Times that a backend gave no answer",
            ["cluster", "specialist", "reason"],
            registry=self._registry,
        )
        self._turned_away = Counter(
            "modelsmith_door_connections_refused",
            "Connections of callers, or to backends, that there was no descriptor for",
            ["side"],
            registry=self._registry,
        )
        for side in get_args(Side):
            self._turned_away.labels(side)
        self._obeyed = Gauge(
            "modelsmith_door_main_obeyed", "1 while what is served is the newest main", registry=self._registry
        )
        self._trouble = Gauge(
            "modelsmith_door_trouble",
            "1 for main or a cluster of which something newer is not obeyed, or a shadow that is not loaded",
            ["what", "code"],
            registry=self._registry,
        )
        self._reloads = Gauge("modelsmith_door_reloads", "Mains obeyed since the start", registry=self._registry)
        self._inside = Gauge("modelsmith_door_requests", "Requests under way", registry=self._registry)
        self._waiting = Gauge("modelsmith_door_waiting", "Requests that wait", registry=self._registry)

    def refused(self, code: str) -> None:
        """Count a request that got no answer."""
        self._refused.labels(code).inc()

    def down(self, cluster: str, specialist: str, reason: str) -> None:
        """Count a backend that gave no answer."""
        self._down.labels(cluster, specialist, reason).inc()

    def turned_away(self, side: Side) -> None:
        """A connection was refused for want of room."""
        self._turned_away.labels(side).inc()

    def state(self, follower: Follower, gate: Gate) -> None:
        """Gauges of how things stand now."""
        self._obeyed.set(all(is_of_a_shadow(source) for source in follower.troubles))
        self._trouble.clear()
        for source, error in follower.troubles.items():
            self._trouble.labels(source, error.code).set(1)
        self._reloads.set(follower.reloads)
        self._inside.set(gate.inside)
        self._waiting.set(gate.waiting)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
