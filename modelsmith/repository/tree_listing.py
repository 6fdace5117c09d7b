"""A tree's files, found folder by folder: what is not asked about is not read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from modelsmith.repository.git_process import over_limits
from modelsmith.repository.listing import MOST_FILES, Entry

FOLDER = "040000"
TOO_MANY = "It holds more files or folders than are ever listed"


class TreeListing:
    """A tree's files, found by descending from its root."""

    def __init__(self, entries: Callable[[str], Mapping[str, Entry]], root: str) -> None:
        """``entries`` gives what one folder holds, by the id of its tree."""
        self._entries = entries
        self._root = root

    def entry(self, path: str) -> Entry | None:
        """See `Listing`."""
        entry = self._find(path)
        return None if entry is None or entry[0] == FOLDER else entry

    def below(self, prefix: str) -> dict[str, Entry]:
        """See `Listing`."""
        entry = self._find(prefix) if prefix else (FOLDER, self._root)
        return dict(self._files(prefix, entry)) if entry else {}

    def names(self, folder: str) -> tuple[str, ...]:
        """See `Listing`."""
        entry = self._find(folder) if folder else (FOLDER, self._root)
        return tuple(self._entries(entry[1])) if entry and entry[0] == FOLDER else ()

    def folder(self, path: str) -> str | None:
        """Id of the tree of a folder; None when there is no such folder."""
        entry = self._find(path)
        return entry[1] if entry is not None and entry[0] == FOLDER else None

    def divide(self, top: str, depth: int) -> tuple[dict[str, str], list[str]]:
        """Folders that lie ``depth`` below ``top``, with the ids of their trees, and the files that lie nearer."""
        at = {top: entry} if (entry := self._find(top)) else {}
        files: list[str] = []
        for _ in range(depth):
            files += [path for path, (mode, _) in at.items() if mode != FOLDER]
            at = {
                f"{path}/{name}": entry
                for path, (mode, oid) in at.items()
                if mode == FOLDER
                for name, entry in self._entries(oid).items()
            }
        files += [path for path, (mode, _) in at.items() if mode != FOLDER]
        return {path: oid for path, (mode, oid) in at.items() if mode == FOLDER}, files

    def _find(self, path: str) -> Entry | None:
        at: Entry | None = (FOLDER, self._root)
        for name in path.split("/"):
            if at is None or at[0] != FOLDER:
                return None
            at = self._entries(at[1]).get(name)
        return at

    def _files(self, top: str, entry: Entry) -> Iterator[tuple[str, Entry]]:
        waiting = [(top, entry)]
        budget = MOST_FILES
        while waiting:
            path, (mode, oid) = waiting.pop()
            if mode != FOLDER:
                yield path, (mode, oid)
                continue
            inner = self._entries(oid)
            budget -= len(inner)
            if budget < 0:
                raise over_limits(TOO_MANY, "Split the proposal.")
            waiting += [(f"{path}/{name}" if path else name, entry) for name, entry in inner.items()]
