"""Routing chains that were folded before, with what was merged since.

A chain follows from the folders of a cluster's specialists. It is kept with the id of the tree that holds them all; of
another tree, git tells which folders differ. Where those only have records more, their links follow the kept chain;
where anything else differs, all of it is folded again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from modelsmith.governance.routing_chain import chain_fact, recall_chain
from modelsmith.governance.states import SpecialistHistory
from modelsmith.promotion.recalled import known_digests
from modelsmith.repository.kept_facts import KeptFacts
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree import Revision
from modelsmith.schema.errors import ModelsmithError

FEW = 64
"""Histories of which the chain is folded in no time."""
_FAR = 32
"""Folders that may differ before the chain is kept anew: looking at one costs as much as folding some."""


class KeptChains:
    """The chains of one main's clusters."""

    def __init__(self, tree: Revision, git: ObjectReader, rules: str, facts: KeptFacts) -> None:
        """``rules`` is the digest of the policy that the histories were folded by."""
        self._tree, self._git, self._rules, self._facts = tree, git, rules, facts

    def recall(self, cluster: str, histories: tuple[SpecialistHistory, ...]) -> None:
        """Have routing know the chain of a cluster's histories, as far as that is kept; keep it where it is due.

        What is wrong with a chain is for whoever asks about it.
        """
        folder = self._tree.folder_id(f"promotions/{cluster}") if len(histories) >= FEW else None
        if folder is None:
            return
        key = f"chain of {cluster} {self._rules}"
        with suppress(ModelsmithError):
            known = self._facts.get(key)
            news = self._news(cluster, known[0], folder, histories) if known else None
            if news is None or not recall_chain(histories, known[1], news) or len(news) > _FAR:
                self._facts.add(key, [folder, chain_fact(histories)])

    def _news(
        self, cluster: str, then: str, now: str, histories: Sequence[SpecialistHistory]
    ) -> list[tuple[SpecialistHistory, int]] | None:
        """Histories that have records more than in the tree ``then``, and how many they had; None for other changes."""
        before, after = self._git.entries(then), self._git.entries(now)
        names = self._git.differing(then, now, before, after)
        at = {history.specialist: history for history in histories} if names else {}
        news: list[tuple[SpecialistHistory, int]] = []
        for name in names:
            old: Any = []
            if name in before:
                old = self._facts.text(f"promotions/{cluster}/{name} {before[name][1]} {self._rules}")
            if old is None or name not in at or name not in after:
                return None
            digests = known_digests(json.loads(old)) if old else ()
            if at[name].digests[: len(digests)] != digests:
                return None
            news.append((at[name], len(digests)))
        return news
