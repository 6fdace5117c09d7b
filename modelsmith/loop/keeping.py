"""The window of a front door that is open: its recorder in step with main, and git in step with its latches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from modelsmith.governance.drift import WEEK, Drifted
from modelsmith.ledger.ledger import ledger_of
from modelsmith.live.ids import key_of
from modelsmith.live.recorder import LiveRecorder
from modelsmith.live.watching import Shadowed, Validated
from modelsmith.loop.drifting import answer_drift
from modelsmith.loop.shadow import look_at, shadowing
from modelsmith.loop.window import live_folder, settle, validated, watching
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.harness import open_harness
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.events import DriftWindow, FleetDrift

_AGAIN: Final = 15.0
"""Seconds after which what failed is tried again."""
_WAITING: Final = 300.0
"""Seconds between two looks at a rollback that waits for a person."""


class Keeper:
    """Follows main for a recorder, and opens and merges the rollback of what it latches.

    A forge that is down, keys that are missing, a refusal: all of that is said, and tried again. The latch holds.
    """

    def __init__(self, workspace: Workspace, say: Callable[[str], None]) -> None:
        """Open the counts of this clone. ``say`` hears what people must know, in some thread.

        Raises:
            InfrastructureFailure: ``key-not-written``.
        """
        self._workspace, self._say = workspace, say
        self._due, self._ended = threading.Event(), threading.Event()
        self._last_words = ""
        self._shadowed: tuple[Shadowed, ...] = ()
        self._worse: set[str] = set()
        """By the names of their counts: those of whom it was said that they are worse in the shadow."""
        self._days: int | None = None
        """For how long main's policy has counts kept, until that was done: it may take long, and no main waits."""
        self.recorder = LiveRecorder(live_folder(workspace), key_of(workspace.home), self._due.set)
        self._thread = threading.Thread(target=self._settle_on, name="live-settling", daemon=True)
        self._thread.start()

    def follow(self, commit: str) -> None:
        """Judge by this main from now on; call it before traffic is routed by it. It reads disk: call it in a thread.

        Raises:
            ModelsmithError: this main cannot be read.
        """
        main = read_governed_state(self._workspace.git, commit)
        self._shadowed = shadowing(main)
        self.recorder.follow(watching(main), validated(main), self._shadowed)
        self._days = main.policy.live_days
        self._due.set()

    def close(self) -> None:
        """Store what is waiting, and end."""
        self._ended.set()
        self._due.set()
        self._thread.join()
        self.recorder.close()

    def _settle_on(self) -> None:
        wait = _AGAIN
        while not self._ended.is_set():
            self._due.wait(wait)
            self._due.clear()
            if not self._ended.is_set():
                try:
                    self._tell_drift()
                    self._answer_drift()
                    self._tell_shadow()
                except Exception as error:  # what cannot be told keeps no latch from git
                    self._tell(f"What live traffic shows cannot be told: {type(error).__name__}: {error}")
                if self.recorder.trips():
                    wait = self._settled()
                days, self._days = self._days, None
                if days is not None:
                    self.recorder.forget(days, self._ended.is_set)

    def _tell_drift(self) -> None:
        """Note each drift in the ledger, from which every subscriber hears of it once; tried again until it is."""
        for drifted, week, drift in self.recorder.drifts():
            window = DriftWindow(began=drifted.since + week * WEEK, ended=drifted.since + (week + 1) * WEEK)
            event = FleetDrift(
                cluster=drifted.cluster,
                specialist=drifted.specialist,
                metric=drift.metric,
                baseline=drift.baseline,
                observed=drift.observed,
                window=window,
            )
            try:
                new = ledger_of(self._workspace).append(event)
            except ModelsmithError as error:
                self._tell(f"DRIFT, and it cannot be noted ({error.code}): {_words(error)}")
                return
            if new:
                self._tell(
                    f"{drifted.specialist} of {drifted.cluster} drifts: {drift.metric} is {drift.observed:.4f} "
                    f"this week, {drift.baseline:.4f} when it was validated. "
                    "Nothing is taken back by itself: see docs/drift.md"
                )

    def _answer_drift(self) -> None:
        """Do what contracts say of drift; what fails is said, and tried again."""
        weeks: dict[tuple[str, int], tuple[Validated, list[Drifted]]] = {}
        for state, week, drift in self.recorder.drifts():
            weeks.setdefault((state.record, week), (state, []))[1].append(drift)
        for (_, week), (standing, drifted) in weeks.items():
            try:
                outcome = answer_drift(self._workspace, standing, week, drifted)
            except ModelsmithError as error:
                self._tell(f"DRIFT, and nothing follows yet ({error.code}): {_words(error)}")
            except Exception as error:  # as of a rollback: the thread goes on
                self._tell(f"DRIFT, and nothing follows yet: {type(error).__name__}: {error}")
            else:
                if outcome:
                    self._tell(f"{standing.specialist} of {standing.cluster}: {outcome}")

    def _tell_shadow(self) -> None:
        """Say, once for each, who is worse in the shadow: evidence of a better moment may be before somebody now."""
        for shadowed in self._shadowed:
            if shadowed.counted_as in self._worse:
                continue
            judgement = look_at(self._workspace, shadowed).judgement
            if judgement.outcome == "roll-back":
                self._worse.add(shadowed.counted_as)
                why = "; ".join(judgement.reasons)
                self._tell(
                    f"{shadowed.specialist} of {shadowed.cluster} is worse in the shadow, "
                    f"so approve no deployment: {why}"
                )

    def _settled(self) -> float:
        """Make git agree; how long to wait until it is tried again."""
        try:
            settled_windows = settle(open_harness(self._workspace))
        except ModelsmithError as error:
            self._tell(f"LATCHED, and git does not agree yet ({error.code}): {_words(error)}")
            return _AGAIN
        except Exception as error:  # a thread that ends would leave git behind, and nobody would hear of it
            self._tell(f"LATCHED, and git does not agree yet: {type(error).__name__}: {error}")
            return _AGAIN
        for settled in settled_windows:
            state = "rolled back" if settled.pull.status == "merged" else "its rollback waits for a person"
            self._tell(
                f"{settled.latch.specialist} of {settled.latch.cluster}: {state}, pull request {settled.pull.number}"
            )
        return _WAITING

    def _tell(self, words: str) -> None:
        if words != self._last_words:
            self._last_words = words
            self._say(words)


def _words(error: ModelsmithError) -> str:
    return f"{error.message.rstrip('.')}. {error.mend}"
