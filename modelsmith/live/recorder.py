"""The recorder of one door: counts in the background, judges after everything that it counts, and latches.

Decisions and answers go into memory and from there to the store some twenty times a second; what a kill takes is the
last moment of both arms alike, and a report brings its decision back. Reports are stored before they are answered.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from modelsmith.governance.drift import Drifted, Rate
from modelsmith.governance.window import lopsided, tripped, watched
from modelsmith.live.clock import Clock
from modelsmith.live.drifts import Drifts
from modelsmith.live.flow import Flow
from modelsmith.live.ids import Ids
from modelsmith.live.latch import Latched, Latches
from modelsmith.live.metrics import Metrics
from modelsmith.live.port import Answered, Arm, Copies, Decision, Recorder, Stage
from modelsmith.live.reports import NO_BODY, STATUS, WORDS, ExpectedReports, Report, read_body, read_report
from modelsmith.live.store import STORE_FILE, Note, Store, measured_of
from modelsmith.live.watching import Shadowed, Validated, Watching
from modelsmith.schema.live import LEAST_SHARE, Counts
from modelsmith.schema.watch import Rule

_PAUSE: Final = 0.05
"""Seconds between two looks at what is to be stored."""
_MOST_WAITING: Final = 200_000
"""Notes in memory at most, while the store takes none: some 100 MB. More are dropped, and counted."""
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_log = logging.getLogger(__name__)


class LiveRecorder(Recorder):
    """See `live.port.Recorder`."""

    def __init__(
        self, folder: Path, key: bytes, on_trip: Callable[[], None] = lambda: None, clock: Clock | None = None
    ) -> None:
        """Open the counts of a clone.

        Args:
            folder: ``Workspace.private / "live"``.
            key: Of decision ids; see `ids.key_of`.
            on_trip: Called, in some thread, after a deployment was latched.
            clock: Of this machine; tests bring their own.
        """
        self.folder, self.latches, self.metrics = folder, Latches(folder / "latches"), Metrics()
        self._ids, self._clock, self._on_trip = Ids(key), clock or Clock(), on_trip
        self._waiting: deque[Note] = deque()
        self._watching: dict[str, Watching] = {}
        self._validated: dict[str, Validated] = {}
        self._shadowed: dict[str, Shadowed] = {}
        self._copies: Counter[str] = Counter()
        """By the name of a shadow's counts in a period: copies so far, those of earlier doors of this clone too."""
        self._drifts, self._flow = Drifts(self._rates, on_trip), Flow()
        self._held: dict[str, Latched] = {}
        self._escalated: set[str] = set()
        self._store: Store | None = None
        self._trouble: dict[str, str] = {}
        self._judging, self._latching = threading.Lock(), threading.Lock()
        self._flushing, self._opening = threading.Lock(), threading.Lock()
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write_on, name="live-counts", daemon=True)
        self._writer.start()

    @property
    @override
    def trouble(self) -> str | None:
        return "; ".join(self._trouble.values()) or None

    def follow(
        self,
        watching: Sequence[Watching],
        validated: Sequence[Validated] = (),
        shadowed: Sequence[Shadowed] = (),
    ) -> None:
        """Watch these deployments from now on, one for each cluster at most; others are no longer judged.

        What the store holds of them is judged at once: a trip that a crash cut short is made up for. Those that were
        ``validated`` are watched for drift, which is told and takes nothing back. Those that are ``shadowed`` are
        counted, and judged by whoever asks.
        """
        self._watching = {window.cluster: window for window in watching}
        self._validated = {item.cluster: item for item in validated}
        self.metrics.open_windows({(window.cluster, window.specialist) for window in watching})
        self._shadowed = {item.cluster: item for item in shadowed}
        for copied in shadowed:
            self._guarded("counts", partial(self._count_copies, copied.counting(self._clock.wall())[0]))
        for settled in validated:
            self._drifts.look(settled, self._clock.now())
        for window in watching:
            if window.terms.rule:
                self._guarded("latch", partial(self.latches.reserve, window.record))
                self._judge(window)

    @override
    def decided(
        self,
        *,
        cluster: str,
        specialist: str,
        incumbent: str,
        record: str,
        arm: Arm,
        key: str,
        share: float,
        stage: Stage,
    ) -> Decision:
        unit, now = self._ids.unit(cluster, specialist, key), self._clock.wall()
        decision = self._ids.decision(cluster, specialist, incumbent, record, arm, unit, share, stage, now)
        if self._rule_for(decision):
            counted = self._in_its_time(self._dated(decision))
            self._copies[counted.record] += stage == "shadow" and arm == "specialist"
            self._put(Note(counted, None))
        elif self._validated_of(decision):
            self._put(Note(self._in_its_time(decision), None))
        return decision

    @override
    def answered(self, decision: Decision, answered: Answered) -> None:
        if decision.stage == "shadow":
            self.metrics.shadowed(decision, answered)
        else:
            self.metrics.answered(decision, answered)
        rule = self._rule_for(decision)
        if rule:
            budget = rule.slow.milliseconds if rule.slow else None
            self._put(Note(self._in_its_time(self._dated(decision)), measured_of(answered, budget)))
        elif (standing := self._validated_of(decision)) and standing.terms.rule:
            slow = standing.terms.rule.slow
            self._put(Note(self._in_its_time(decision), measured_of(answered, slow.milliseconds if slow else None)))

    @override
    def feedback(
        self, body: bytes, may: Callable[[str], bool] = lambda cluster: True, sender: str = ""
    ) -> tuple[int, dict[str, Any]]:
        reports = read_body(body)
        if reports is None:
            self.metrics.report("", "malformed")
            return 400, {"error": {"code": "malformed", "message": NO_BODY}}
        now = self._clock.now()
        followed: list[Validated | Watching] = [*self._validated.values(), *self._watching.values()]
        expected = {
            item.record: ExpectedReports(
                [m.name for m in watched(item.terms) if m.reported],
                timedelta(minutes=item.terms.rule.late_minutes),
                isinstance(item, Validated),
            )
            for item in followed
            if item.terms.rule
        }
        outcomes = [read_report(report, self._ids, expected, may, sender, now) for report in reports]
        good = [
            report._replace(decision=self._in_its_time(self._dated(report.decision)))
            for report in outcomes
            if isinstance(report, Report)
        ]
        if not self._flow.allows(Counter((report.decision.cluster, sender) for report in good), self._clock.steady()):
            self.metrics.report("", "flood", len(reports))
            return 429, {"error": {"code": "flood", "message": WORDS["flood"]}}
        stored = iter(self._stored(good))
        results = []
        for report in outcomes:
            cluster, result = (
                (report.decision.cluster, next(stored)) if isinstance(report, Report) else (report[1], report[0])
            )
            self.metrics.report(cluster, result)
            results.append({"result": result, **({"message": WORDS[result]} if result in WORDS else {})})
        self._judge_all({report.decision.record for report in good})
        if len(results) == 1:
            return STATUS[results[0]["result"]], results[0]
        statuses = {STATUS[answer["result"]] for answer in results}
        return (statuses.pop() if len(statuses) == 1 else 200), {"results": results}

    @override
    def copies(self, record: str) -> Copies:
        shadow = next((item for item in self._shadowed.values() if item.counted_as == record), None)
        name = shadow.counting(self._clock.wall())[0] if shadow else record
        return Copies(name, self._copies[name])

    @override
    def latched(self, record: str) -> bool:
        return record in self._held or (record != "" and self.latches.is_set(record))

    @override
    def exposition(self) -> tuple[str, bytes]:
        return self.metrics.exposition()

    def drifts(self) -> list[tuple[Validated, int, Drifted]]:
        """What has left its envelope, each with the number of the week; again what was told before."""
        for validated in list(self._validated.values()):
            self._drifts.look(validated, self._clock.now())
        return self._drifts.entries()

    def counts(self, watching: Watching) -> Counts | None:
        """The counts of a deployment. Raises sqlite3.Error."""
        return self._opened().counts(watching.record, [metric.name for metric in watched(watching.terms)])

    def trips(self) -> list[tuple[Watching, Latched | None]]:
        """Deployments under watch that are latched on disk, each with what its latch says; None of a damaged one."""
        return [
            (watching, self._held.get(watching.record) or self.latches.read(watching.record))
            for watching in list(self._watching.values())
            if self.latches.is_set(watching.record)
        ]

    def forget(self, days: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Remove counts that nothing was added to for so many days, or until ``stop``.

        Those of an open window stay, and those of a shadow that are still evidence.
        """
        before = self._clock.now() - timedelta(days=days)
        keep = {watching.record for watching in self._watching.values()}
        keep.update(name for shadowed in self._shadowed.values() for name in shadowed.counting(self._clock.wall()))
        self._guarded("store", lambda: self._opened().forget(before, keep, stop))

    def flush(self) -> None:
        """Store and judge what is waiting, now."""
        with self._flushing:
            notes = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if not notes:
                return
            if not self._guarded("store", lambda: self._opened().note(notes)):
                self._waiting.extendleft(reversed(notes))
                return
        self._judge_all({note.decision.record for note in notes})

    def close(self) -> None:
        """Store what is waiting, and end."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._writer.join()
        self.flush()
        if self._store:
            self._store.close()

    def _rule_for(self, decision: Decision) -> Rule | None:
        """The rule by which it is compared: two arms, under watch. None where it is not part of a comparison."""
        watched_by: Watching | Shadowed | None = self._watching.get(decision.cluster)
        if decision.stage == "shadow":
            watched_by = self._shadowed.get(decision.cluster)
        if watched_by is None or _counted_as(watched_by) != decision.record:
            return None
        return watched_by.terms.rule if LEAST_SHARE <= decision.share <= 1 - LEAST_SHARE else None

    def _validated_of(self, decision: Decision) -> Validated | None:
        validated = self._validated.get(decision.cluster)
        return validated if validated and validated.record == decision.record and decision.stage == "full" else None

    def _in_its_time(self, decision: Decision) -> Decision:
        """The decision as it is counted where counts age: by its week, or its period in the shadow."""
        if decision.stage == "shadow":
            copied = self._shadowed.get(decision.cluster)
            return replace(decision, record=copied.counted_in(copied.period(decision.at))) if copied else decision
        validated = self._validated_of(decision)
        return replace(decision, record=validated.counted_as(validated.week(decision.at))) if validated else decision

    def _dated(self, decision: Decision) -> Decision:
        """The decision at a time that can be: none was made before the deployment was approved, whatever a clock said.

        A clock that was behind for the first of them would else make evidence that no gate takes, for good.
        """
        watching = self._watching.get(decision.cluster)
        if watching is None or watching.record != decision.record or decision.at >= watching.opens:
            return decision
        return replace(decision, at=watching.opens)

    def _put(self, note: Note) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self.metrics.dropped()
            return
        self._waiting.append(note)

    def _write_on(self) -> None:
        while not self._ended.wait(_PAUSE if "store" not in self._trouble else 1.0):
            try:
                self.flush()
                for latch in list(self._held.values()):
                    self._latch(latch)
            except Exception:  # a thread that ends would count nothing more, and nobody would hear of it
                _log.exception("what was counted could not be judged")
                self._trouble["writer"] = "counting failed; the log says why"

    def _count_copies(self, name: str) -> None:
        counts = self._opened().counts(name, [])
        self._copies[name] = max(self._copies[name], sum(stage.specialist for stage in counts.stages) if counts else 0)

    def _rates(self, name: str) -> dict[str, Rate] | None:
        rates = dict[str, Rate]()
        return rates if self._guarded("counts", lambda: rates.update(self._opened().rates(name))) else None

    def _opened(self) -> Store:
        with self._opening:
            if self._store is None:
                self._store = Store(self.folder / STORE_FILE)
            return self._store

    def _stored(self, reports: list[Report]) -> list[str]:
        accepted: list[str] = []

        def store() -> None:
            accepted.extend(self._opened().report(reports))

        if reports and not self._guarded("store", store):
            return ["not-stored"] * len(reports)
        return accepted

    def _guarded(self, task: str, act: Callable[[], object]) -> bool:
        """Do something that a full disk or a damaged file may stop; whether it was done. Serving goes on either way.

        What can be read says nothing of what can be written. A file that is damaged somewhere stays so, whatever else
        of it can be used: that it was found is said until the door starts anew.
        """
        try:
            act()
        except (OSError, sqlite3.Error) as error:
            if task not in self._trouble:
                _log.error("%s: %s", task, error)
            self._trouble[task] = f"{task}: {error}"
            if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                self._trouble["damage"] = f"{task}: {error}"
            return False
        self._trouble.pop(task, None)
        return True

    def _judge_all(self, records: Set[str]) -> None:
        for settled in list(self._validated.values()):
            if any(record.startswith(f"{settled.record} week ") for record in records):
                self._drifts.look(settled, self._clock.now())
        for watching in list(self._watching.values()):
            if watching.record in records:
                self._judge(watching)

    def _judge(self, watching: Watching) -> None:
        """Latch when the rule trips within the window; outside of it say so, and leave it to a person."""
        if watching.terms.rule is None:
            return
        with self._judging:
            if self.latched(watching.record):
                return
            counts: list[Counts | None] = []
            if not self._guarded("counts", lambda: counts.append(self.counts(watching))):
                return
            reasons = tripped(watching.terms, counts[0])
            self.metrics.window(watching.cluster, watching.specialist, counts[0], watching.terms)
            if not reasons or counts[0] is None:
                return
            reasons += lopsided(watching.terms, counts[0])
            now = self._clock.now()
            if now > watching.closes:
                if watching.record not in self._escalated:
                    _log.error("%s: worse than allowed, after its window: %s", watching.specialist, "; ".join(reasons))
                self._escalated.add(watching.record)
                return
            at = self._clock.wall().replace(microsecond=0)
            latch = Latched(
                cluster=watching.cluster, specialist=watching.specialist, record=watching.record, at=at,
                reasons=reasons, counts=counts[0],
            )  # fmt: skip
            self._held[watching.record] = latch
        _log.error("%s is taken back: %s", watching.specialist, "; ".join(reasons))
        self._latch(latch)

    def _latch(self, latch: Latched) -> None:
        """On disk before it is announced; while that fails it holds in memory, and this is tried again."""
        with self._latching:
            if self.latches.is_set(latch.record):  # by this door before, or by another one of this clone
                self._trouble.pop("latch", None)
                return
            new = self._guarded("latch", lambda: self.latches.set(latch))
        if new:
            self._on_trip()


def _counted_as(watching: Watching | Shadowed) -> str:
    return watching.counted_as if isinstance(watching, Shadowed) else watching.record
