"""The promotions folder read as histories: what each specialist has been through."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

from modelsmith.governance.states import SpecialistHistory, fold, parse_folder, record_folder
from modelsmith.promotion.kept_chains import KeptChains
from modelsmith.promotion.recalled import fact_of, kept_light, recalled_later
from modelsmith.repository.kept_facts import KeptFacts
from modelsmith.repository.objects import ObjectReader
from modelsmith.repository.tree import Revision, Tree, read_each
from modelsmith.schema.canonical import content_digest, is_plain_canonical, sha256
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.governance import Policy
from modelsmith.schema.promotion import RECORD_FILE, PromotionRecord
from modelsmith.schema.pull import Change

PROMOTIONS = "promotions"
RECEIPTS = "receipts"
_AT_ONCE = 64
"""Histories of which the records are read together."""


def parse_record(path: str, data: bytes) -> PromotionRecord:
    """A record, refused unless its bytes are canonical JSON and its path says the same as its content.

    Raises:
        IntegrityFailure: ``bad-record``.
    """
    try:
        record = PromotionRecord.model_validate_json(data)
    except ValueError as error:
        raise IntegrityFailure(
            "bad-record",
            f"{path} is not a promotion record: {error}",
            "Restore it from history.",
            path=path,
            reason=str(error),
        ) from None
    if not is_plain_canonical(data, record):
        raise IntegrityFailure(
            "bad-record",
            f"{path} is not canonical JSON (RFC 8785) in plain text",
            "Restore it from history.",
            path=path,
        )
    if f"{record_folder(record)}/{RECORD_FILE}" != path:
        raise IntegrityFailure(
            "bad-record",
            f"{path} holds the record of {record_folder(record)}",
            "Put it into the folder it names.",
            path=path,
        )
    return record


@dataclass(frozen=True)
class Histories:
    """Every specialist's history at one commit."""

    by_specialist: dict[str, SpecialistHistory]
    """Histories, by specialist id."""
    recall: Callable[[str, tuple[SpecialistHistory, ...]], None] | None = field(default=None, compare=False, repr=False)
    """Told of a cluster's histories when somebody first asks for them: what is kept of their routing is found then."""

    def of_cluster(self, cluster: str) -> tuple[SpecialistHistory, ...]:
        """Histories of one cluster, by specialist id."""
        found = self._clusters.get(cluster, ())
        if self.recall and cluster not in self._recalled:
            self._recalled.add(cluster)
            self.recall(cluster, found)
        return found

    def others(self, cluster: str, specialist: str) -> tuple[SpecialistHistory, ...]:
        """Histories of one cluster without that of one specialist, by specialist id."""
        return _without(self.of_cluster(cluster), specialist)

    @cached_property
    def _recalled(self) -> set[str]:
        return set()

    @cached_property
    def _clusters(self) -> dict[str, tuple[SpecialistHistory, ...]]:
        by_cluster: dict[str, list[SpecialistHistory]] = {}
        for _, history in sorted(self.by_specialist.items()):
            by_cluster.setdefault(history.cluster, []).append(history)
        return {cluster: tuple(histories) for cluster, histories in by_cluster.items()}

    def changed(self, removed: Iterable[str], folded: Iterable[SpecialistHistory]) -> Histories:
        """These histories without the specialists in ``removed``, and with those that were folded.

        Raises:
            IntegrityFailure: ``duplicate-specialist``.
        """
        by_specialist, clusters = dict(self.by_specialist), dict(self._clusters)
        for name in removed:
            old = by_specialist.pop(name)
            clusters[old.cluster] = _without(clusters[old.cluster], name)
        for history in folded:
            if history.specialist in by_specialist:
                raise _duplicate()
            by_specialist[history.specialist] = history
            others = clusters.get(history.cluster, ())
            at = bisect_left(others, history.specialist, key=_specialist)
            clusters[history.cluster] = (*others[:at], history, *others[at:])
        histories = Histories(by_specialist)
        histories.__dict__["_clusters"] = {cluster: histories for cluster, histories in clusters.items() if histories}
        return histories

    def find(self, specialist: str) -> SpecialistHistory:
        """History of one specialist.

        Raises:
            InvalidInput: ``unknown-specialist``.
        """
        if specialist not in self.by_specialist:
            names = ", ".join(sorted(self.by_specialist))
            raise InvalidInput(
                "unknown-specialist",
                f"There is no specialist '{specialist}'",
                f"Choose one of: {names}."
                if names
                else "There is none yet: `modelsmith iterate CLUSTER` trains the first.",
                specialist=specialist,
            )
        return self.by_specialist[specialist]


def _without(histories: tuple[SpecialistHistory, ...], specialist: str) -> tuple[SpecialistHistory, ...]:
    """Histories in the order of their ids, without one; found by halves, as a replay asks this at every step."""
    at = bisect_left(histories, specialist, key=_specialist)
    exists = at < len(histories) and histories[at].specialist == specialist
    return histories[:at] + histories[at + 1 :] if exists else histories


def _specialist(history: SpecialistHistory) -> str:
    return history.specialist


def record_paths(paths: Iterable[str]) -> list[str]:
    """Paths of promotion records among the given paths."""
    return [p for p in paths if p.startswith(f"{PROMOTIONS}/") and p.count("/") == 4 and p.endswith(f"/{RECORD_FILE}")]


def read_histories(tree: Tree, policy: Policy, facts: KeptFacts | None = None) -> Histories:
    """Fold every record of the tree into histories; those that were folded before come from what is kept of them.

    Where git is an `ObjectReader`, the records are not held in memory for long: they are read when somebody asks.

    Raises:
        IntegrityFailure: a record is malformed, a chain broken or a transition not allowed.
    """
    divided = tree.divide(PROMOTIONS, 2) if isinstance(tree, Revision) else None
    if divided is None:
        return _all(_fold_each(_read_records(tree, record_paths(tree.paths(PROMOTIONS))).items(), policy))
    assert isinstance(tree, Revision)
    if facts is None:
        return _all(_folders_folded(tree, sorted(divided[0], key="{}/".format), policy))
    rules = content_digest(policy)
    keys = {folder: f"{folder} {oid} {rules}" for folder, oid in divided[0].items()}
    kept = {folder: fact for folder, key in keys.items() if (fact := facts.text(key)) is not None}
    known = {folder: recalled_later(tree, folder, fact) for folder, fact in kept.items()}
    new = [path for folder in keys.keys() - known.keys() for path in record_paths(tree.paths(folder))]
    folded = _fold_each(_read_records(tree, sorted(new)).items(), policy)
    for history in folded:
        facts.add(keys[_name(history)], fact_of(tree, history))
    found = _all(sorted([*known.values(), *folded], key=_before_files))
    if isinstance(tree.git, ObjectReader):
        return replace(found, recall=KeptChains(tree, tree.git, rules, facts).recall)
    return found


def histories_after(before: Histories, change: Change, tree: Tree, policy: Policy, same_policy: bool) -> Histories:
    """`read_histories` of ``tree``, the tree of ``before`` with ``change``; reads only the histories that it touches.

    Args:
        before: Histories before the change.
        change: Everything that differs.
        tree: Files after it.
        policy: Policy after it.
        same_policy: Whether ``before`` was folded by an equal policy; its other histories are folded again when not.

    Raises:
        IntegrityFailure: as `read_histories`.
    """
    touched = {_history_folder(path) for path in record_paths(path.path for path in change.paths)}
    if same_policy and not touched:
        return before
    paths = [path for folder in sorted(touched) for path in record_paths(tree.paths(folder))]
    records = _read_records(tree, paths)
    named = {folder.rpartition("/")[2] for folder in touched} & before.by_specialist.keys()
    replaced = {name for name in named if _name(before.by_specialist[name]) in touched}
    if same_policy:
        return before.changed(replaced, _fold_each(records.items(), policy, _light(tree)))
    unchanged = [history for name, history in before.by_specialist.items() if name not in replaced]
    again = ((_name(history), [*zip(history.records, history.digests, strict=True)]) for history in unchanged)
    return _all(_fold_each(chain(again, records.items()), policy, _light(tree)))


_ParsedRecord = tuple[PromotionRecord, str]
"""A record and its digest, which is that of its bytes: they are canonical."""


def _read_records(tree: Tree, paths: Sequence[str]) -> dict[str, Sequence[_ParsedRecord]]:
    """Records in sequence, by the folder of their history."""
    contents, refused = read_each(tree, paths)
    for error in refused.values():
        raise error
    records: dict[str, list[_ParsedRecord]] = {}
    for path in paths:
        parse_folder(path.rpartition("/")[0])
        entry = parse_record(path, contents[path]), sha256(contents[path])
        records.setdefault(_history_folder(path), []).append(entry)
    return {folder: sorted(entries, key=lambda entry: entry[0].sequence) for folder, entries in records.items()}


def _folders_folded(tree: Revision, folders: Sequence[str], policy: Policy) -> list[SpecialistHistory]:
    """The histories in these folders, in their order, with the records of a few in memory at a time."""
    folded: list[SpecialistHistory] = []
    for start in range(0, len(folders), _AT_ONCE):
        paths = [path for folder in folders[start : start + _AT_ONCE] for path in record_paths(tree.paths(folder))]
        folded += _fold_each(_read_records(tree, paths).items(), policy, tree)
    return folded


def _fold_each(
    records: Iterable[tuple[str, Sequence[_ParsedRecord]]], policy: Policy, light: Revision | None = None
) -> list[SpecialistHistory]:
    """Each history folded, from records by folder; with the tree that they are in, they are not held for long."""
    folded = (
        fold([record for record, _ in entries], policy, [digest for _, digest in entries]) for _, entries in records
    )
    return [kept_light(light, history) for history in folded] if light else [*folded]


def _light(tree: Tree) -> Revision | None:
    """The tree, where the records of its histories can be read again one history at a time."""
    return tree if isinstance(tree, Revision) and isinstance(tree.git, ObjectReader) else None


def _all(histories: Sequence[SpecialistHistory]) -> Histories:
    by_specialist = {history.specialist: history for history in histories}
    if len(by_specialist) != len(histories):
        raise _duplicate()
    return Histories(by_specialist)


def _duplicate() -> IntegrityFailure:
    return IntegrityFailure("duplicate-specialist", "Two clusters name the same specialist", "Remove one of them.")


def _before_files(history: SpecialistHistory) -> str:
    """Sorts histories as the paths of their files."""
    return f"{_name(history)}/"


def _history_folder(path: str) -> str:
    return path.rsplit("/", 2)[0]


def _name(history: SpecialistHistory) -> str:
    return f"{PROMOTIONS}/{history.cluster}/{history.specialist}"


def receipts_of(tree: Tree, folder: str) -> dict[str, str]:
    """Digest of every receipt of one event folder, by file name."""
    prefix = f"{folder}/{RECEIPTS}"
    contents, refused = read_each(tree, tree.paths(prefix))
    for error in refused.values():
        raise error
    return {path.removeprefix(prefix + "/"): sha256(data) for path, data in contents.items()}
