"""The promotions folder read as lives: what each specialist has been through."""

from __future__ import annotations

from dataclasses import dataclass

from modelsmith.governance.states import Life, fold, parse_folder, record_folder
from modelsmith.repository.tree import Tree, read_each
from modelsmith.schema.canonical import is_canonical, sha256
from modelsmith.schema.errors import IntegrityFailure, InvalidInput
from modelsmith.schema.governance import Policy
from modelsmith.schema.promotion import RECORD_FILE, PromotionRecord

PROMOTIONS = "promotions"
RECEIPTS = "receipts"


def parse_record(path: str, data: bytes) -> PromotionRecord:
    """A record, refused unless its bytes are canonical JSON and its path says the same as its content.

    Raises:
        IntegrityFailure: ``bad-record``.
    """
    try:
        record = PromotionRecord.model_validate_json(data)
    except ValueError as error:
        raise IntegrityFailure(
            "bad-record", f"{path} is not a promotion record: {error}", "Restore it from history."
        ) from None
    if not is_canonical(data, record):
        raise IntegrityFailure("bad-record", f"{path} is not canonical JSON (RFC 8785)", "Restore it from history.")
    if f"{record_folder(record)}/{RECORD_FILE}" != path:
        raise IntegrityFailure(
            "bad-record", f"{path} holds the record of {record_folder(record)}", "Put it into the folder it names."
        )
    return record


@dataclass(frozen=True)
class History:
    """Every specialist's life at one commit."""

    lives: dict[str, Life]
    """By specialist id."""

    def of_cluster(self, cluster: str) -> tuple[Life, ...]:
        """Lives of one cluster, by specialist id."""
        return tuple(life for _, life in sorted(self.lives.items()) if life.cluster == cluster)

    def find(self, specialist: str) -> Life:
        """One specialist's life.

        Raises:
            InvalidInput: ``unknown-specialist``.
        """
        if specialist not in self.lives:
            known = ", ".join(sorted(self.lives)) or "none yet"
            raise InvalidInput(
                "unknown-specialist", f"There is no specialist '{specialist}'", f"Choose one of: {known}."
            )
        return self.lives[specialist]


def read_history(tree: Tree, policy: Policy) -> History:
    """Fold every record of the tree into lives.

    Raises:
        IntegrityFailure: a record is malformed, a chain broken or a transition not allowed.
    """
    paths = [path for path in tree.paths(PROMOTIONS) if path.count("/") == 4 and path.endswith(f"/{RECORD_FILE}")]
    contents, refused = read_each(tree, paths)
    for error in refused.values():
        raise error
    records: dict[str, list[PromotionRecord]] = {}
    for path in paths:
        folder = path.rpartition("/")[0]
        parse_folder(folder)
        life = folder.removeprefix(f"{PROMOTIONS}/").rpartition("/")[0]
        records.setdefault(life, []).append(parse_record(path, contents[path]))
    lives = {
        name.split("/")[1]: fold(sorted(found, key=lambda r: r.sequence), policy) for name, found in records.items()
    }
    if len(lives) != len(records):
        raise IntegrityFailure("duplicate-specialist", "Two clusters name the same specialist", "Remove one of them.")
    return History(lives)


def receipts_of(tree: Tree, folder: str) -> dict[str, str]:
    """Digest of every receipt of one event folder, by file name."""
    prefix = f"{folder}/{RECEIPTS}"
    return {path.removeprefix(prefix + "/"): sha256(tree.read(path)) for path in tree.paths(prefix)}
