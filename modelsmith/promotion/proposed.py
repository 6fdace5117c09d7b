"""A promotion as proposed: its record, and the files of its folder, read as data."""

from __future__ import annotations

from dataclasses import dataclass

from modelsmith.promotion.freshness import read_evidence
from modelsmith.promotion.governed_state import GovernedState
from modelsmith.promotion.histories import PROMOTIONS, RECEIPTS, parse_record
from modelsmith.repository.tree import Revision, read_each
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.evidence import EVIDENCE_FILE, Evidence
from modelsmith.schema.promotion import RECORD_FILE, PromotionRecord
from modelsmith.signing.dsse import peek, unseal
from modelsmith.signing.wire import parse_statement


@dataclass(frozen=True)
class Promotion:
    """One promotion as proposed."""

    main: GovernedState
    proposed: Revision
    """The tree that main would have after the merge."""
    record: PromotionRecord
    files: dict[str, bytes]
    """Files of the new folder by name, receipts left out."""
    touched: frozenset[str]

    @property
    def evidence(self) -> Evidence:
        """The eval's evidence that the promotion brings, from ``evidence.json``."""
        return read_evidence(self.file(EVIDENCE_FILE))

    def file(self, name: str) -> bytes:
        """One file of the new folder.

        Raises:
            IntegrityFailure: ``check-failed`` when it is missing.
        """
        refuse(name not in self.files, f"{name} is missing")
        return self.files[name]


def read_promotion(main: GovernedState, proposed: Revision, touched: frozenset[str]) -> Promotion:
    """The promotion that a change brings.

    Raises:
        IntegrityFailure: ``bad-promotion`` when it touches more than one folder; ``bad-record``.
        InvalidInput: ``missing-file`` without a record.
    """
    folders = {"/".join(p.split("/")[:4]) for p in touched if p.startswith(f"{PROMOTIONS}/")}
    if len(folders) != 1:
        raise IntegrityFailure("bad-promotion", "A promotion adds exactly one folder", "Split the pull request.")
    folder = folders.pop()
    record = parse_record(f"{folder}/{RECORD_FILE}", proposed.read(f"{folder}/{RECORD_FILE}"))
    paths = [p for p in proposed.paths(folder) if not p.startswith(f"{folder}/{RECEIPTS}/")]
    contents, refused = read_each(proposed, paths)
    if refused:
        raise next(iter(refused.values()))
    files = {path.removeprefix(f"{folder}/"): data for path, data in contents.items()}
    return Promotion(main, proposed, record, files, touched)


def refuse(condition: bool, message: str) -> None:
    """Fail the check when the condition holds.

    Raises:
        IntegrityFailure: ``check-failed``.
    """
    if condition:
        raise IntegrityFailure("check-failed", message, "Prepare the promotion again.")


def require_seal(promotion: Promotion, signature: str, name: str, kind: str, due: dict[str, str]) -> None:
    """The signature file is of a trusted key, about this file, and says nothing more than is due.

    Args:
        promotion: Where both files are.
        signature: Name of the signature file.
        name: Name of the file that it signs.
        kind: Type of the signed statement.
        due: What the statement may say beside its subject. A free predicate would be a place for any text.

    Raises:
        IntegrityFailure: as `unseal`; ``check-failed`` for another name or for more words.
    """
    bundle = promotion.file(signature)
    predicate = unseal(bundle, promotion.main.signers(promotion.record.cluster), promotion.file(name), kind)
    differs = any(due.get(key) != value for key, value in predicate.items())
    named = parse_statement(peek(bundle)).subject[0].name
    refuse(differs or named != name, f"{signature} says something else than that it signs this {name}")
