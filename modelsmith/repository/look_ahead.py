"""Has a reader of objects read together what comparing commits will ask for: faster than one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from modelsmith.repository import comparison
from modelsmith.repository.objects import SMALL, ObjectReader
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, ModelsmithError


def look_ahead(reader: ObjectReader, pairs: Sequence[tuple[str, str]]) -> None:
    """Read what comparing these pairs of commits will ask for, and the small files that are new in them.

    Folders are asked for level by level, those of all pairs at once. What cannot be read is left to whoever asks for
    it, so nothing is refused or believed here.
    """
    reader.ahead({oid for pair in pairs for oid in pair if not reader.remembers(oid)}, "commit", SMALL)
    waiting: set[comparison.Pair] = set()
    for old, new in pairs:
        with suppress(IntegrityFailure, InfrastructureFailure):
            waiting.add((reader.commit(old).tree, reader.commit(new).tree))
    files: set[str] = set()
    budget = comparison.MOST_COMPARED
    while waiting and budget > 0:
        reader.ahead({oid for both in waiting for oid in both if oid and not reader.remembers(oid)}, "tree", SMALL)
        below: set[comparison.Pair] = set()
        for both in waiting:
            with suppress(ModelsmithError):
                looked, folders, new_files = comparison.below(reader, both)
                budget -= looked
                below |= folders
                files |= new_files
        waiting = below
    reader.files_ahead({oid for oid in files if not reader.remembers(oid)})
