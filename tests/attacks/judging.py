"""What the gate and `verify` say about the files of a promotion, without a pull request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from modelsmith.promotion.checks import checks_of
from modelsmith.promotion.clock import BEGINNING
from modelsmith.promotion.histories import parse_record
from modelsmith.promotion.proposed import Promotion
from modelsmith.repository.tree import Revision
from modelsmith.schema.promotion import RECORD_FILE


def refusals(world, files: Mapping[str, bytes], now: datetime | None) -> dict[str, str]:
    """What the gate (with a present) or `verify` (without) says about these files, signed with the harness's key."""
    main = world.governed()
    path = next(path for path in files if path.endswith(f"/{RECORD_FILE}"))
    folder = path.removesuffix(RECORD_FILE)
    try:
        record = parse_record(path, files[path])
    except Exception as error:
        return {"record": str(error)}
    own = {name.removeprefix(folder): data for name, data in files.items() if name.startswith(folder)}
    promotion = Promotion(main, Overlay(main.tree, files), record, own, frozenset(files))
    checks = checks_of(promotion, now, BEGINNING)
    return {check.name: check.sentence for check in checks if not check.passed}


class Overlay(Revision):
    """Main's tree with some files on top."""

    def __init__(self, tree: Revision, files: Mapping[str, bytes]) -> None:
        super().__init__(tree.git, tree.commit)
        self._files = files

    def read(self, path: str) -> bytes:
        return self._files[path] if path in self._files else super().read(path)

    def exists(self, path: str) -> bool:
        return path in self._files or super().exists(path)


def judged(world, files) -> tuple[dict[str, str], dict[str, str]]:
    """The gate's refusals and those of `verify`; the packet is compared at the gate alone, and is not what is tried."""
    gate, replay = (refusals(world, files, now) for now in (datetime.now(UTC), None))
    gate.pop("packet", None)
    return gate, replay
