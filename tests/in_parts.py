"""A replay in parts, as `replay_apart` makes it, in this process alone; and what a replay comes to, to be compared."""

from __future__ import annotations

from datetime import UTC

from modelsmith.promotion import judging
from modelsmith.promotion.parts import counted, cut, joined
from modelsmith.promotion.receipt_commits import read_receipts
from modelsmith.promotion.verify import replay, replay_part
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.progress import silent


def replayed_in_parts(git, start, steps, cuts, now):
    """The replay of steps that are cut at these indices."""
    parts = cut(start, steps, cuts)
    others = [counted(git, part, silent, now) for part in parts[:-1]]
    try:
        last = replay_part(git, parts[-1], silent, now)
    except (ModelsmithError, ValueError) as error:
        last = error if isinstance(error, ModelsmithError) else None
    return joined(git, parts, others, last, silent, now)


def outcome(judge):
    """All that a replay says, whether it holds or not."""
    try:
        result = judge()
    except ModelsmithError as error:
        return type(error), error.envelope()
    main = result.main
    governed = (main.tree.commit, main.policy, main.people, main.codeowners, main.trusted, main.workflows)
    counts = (result.changes, result.promotions, result.approvals)
    return counts, governed, main.observers, main.histories, result.line, result.spent, result.latest


def after_receipts(git, steps):
    """Indices at which a line can be cut: after each commit that adds receipts, but the last."""

    def adds(step):
        try:
            return read_receipts(git, step)
        except (ModelsmithError, ValueError):
            return None

    return [at + 1 for at, step in enumerate(steps[:-1]) if adds(step)]


def same_in_parts(path, start, tip, places=None, thorough=True, whole=None):
    """What one replay says, once replays that are cut in other ways have said the same.

    ``whole``: what one replay has just said, if there was one.
    ``places``: where it is cut, each time; without, wherever receipts were added, once everywhere and once at each of
    these places alone, or only everywhere unless ``thorough``.
    """
    now = judging.datetime.now(UTC)  # the clock of `verify`, which a test may have set
    with ObjectReader(path) as git:
        log = git.first_parent_log(tip)
        steps = log[[commit.id for commit in log].index(start) + 1 :]
        whole = whole or outcome(lambda: replay(git, start, steps, silent, now))
        clean = after_receipts(git, steps)
        for cuts in places or [*([clean] if clean else []), *([at] for at in clean if thorough)]:
            assert outcome(lambda cuts=cuts: replayed_in_parts(git, start, steps, cuts, now)) == whole, cuts
    return whole
