"""Groups of scenarios that speak of the same thing, so that a failure can be seen to keep to one of them.

They are made of everything that was asked, never of what failed: so the same set has the same topics in every run, in
whatever order its scenarios lie and whatever they are called.
By the words of the scenarios, or, where policy names an embedding model, by what they mean. A topic is named after a
scenario, never after a number that a machine computed. scikit-learn, from the extra ``train``, is imported on first
use; nothing is downloaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from modelsmith.schema.base import Slug
from modelsmith.schema.errors import InfrastructureFailure
from modelsmith.schema.scenario import Scenario
from modelsmith.substrates.embedder import Embedder

LEAST: Final = 30
"""Scenarios of a capability below which there are no topics: ten of each, and more than one."""
_TOPICS: Final = 8
_ALIKE: Final = 1e-4
"""Distances that differ by less are the same: what machines may differ by is a hundredth of that."""


def topics(scenarios: Sequence[Scenario], embedder: Embedder | None = None) -> dict[Slug, Slug]:
    """For each scenario, the one that is most typical of what it speaks of; empty for fewer than `LEAST` scenarios.

    Words by TF-IDF, or vectors of the embedder, in at most eight groups by k-means with a fixed seed.

    Raises:
        InfrastructureFailure: ``extra-missing`` without scikit-learn; as the embedder.
    """
    if len(scenarios) < LEAST:
        return {}
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        raise InfrastructureFailure(
            "extra-missing", "Grouping many failures needs scikit-learn.", "Run: pip install 'modelsmith[train]'"
        ) from None
    ordered = sorted(scenarios, key=lambda scenario: (scenario.user_texts()[0], scenario.id))
    texts = [scenario.user_texts()[0] for scenario in ordered]
    weights = _by_words(texts) if embedder is None else embedder.vectors(texts).astype("float64")
    if weights is None:
        return {}
    groups = KMeans(min(_TOPICS, len(ordered) // 10), n_init=1, max_iter=20, random_state=0)
    distances = groups.fit_transform(weights)
    # The first of all that are as near as the nearest: scenarios with the same text do not change places.
    slack = _ALIKE if embedder else 0.0
    typical = [ordered[int((column <= column.min() + slack).argmax())].id for column in distances.T]
    return {scenario.id: typical[int(group)] for scenario, group in zip(ordered, groups.labels_, strict=True)}


def _by_words(texts: Sequence[str]) -> Any:
    """Weights of words by TF-IDF; None where no word says anything."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(sublinear_tf=True, min_df=2, max_df=0.6, max_features=5_000, stop_words="english")
    try:
        return words.fit_transform(texts)
    except ValueError:
        return None


def kept_to(failed: Sequence[Slug], topic: dict[Slug, Slug]) -> dict[Slug, tuple[int, int]]:
    """Topics that the failures keep to, with their failed and all scenarios: three, and twice the others' share."""
    lost, totals = Counter(topic[name] for name in failed if name in topic), Counter(topic.values())
    counts = {}
    for name, count in lost.items():
        rest, others = sum(lost.values()) - count, sum(totals.values()) - totals[name]
        if count >= 3 and others and count / totals[name] >= 2 * rest / others:
            counts[name] = (count, totals[name])
    return counts
