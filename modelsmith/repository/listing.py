"""Which files a tree holds, without their content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

Entry = tuple[str, str]
"""Git file mode (``100644``) and object id."""

REGULAR = "100644"
EXECUTABLE = "100755"
SYMLINK = "120000"
SUBMODULE = "160000"

MOST_FILES = 1_000_000
"""Files that a tree may list at most; folders that name one another can hold billions in a few kilobytes."""


class Listing(Protocol):
    """Every file of one tree, links and submodules included, folders not."""

    def entry(self, path: str) -> Entry | None:
        """The entry at a path; None for a folder and for nothing."""
        ...

    def below(self, prefix: str) -> Mapping[str, Entry]:
        """Path to entry of everything at or below ``prefix``; all of it for the empty prefix."""
        ...

    def names(self, folder: str) -> Iterable[str]:
        """Names in one folder (the root when empty), those of folders included; none when there is no such folder."""
        ...


class FlatListing:
    """A listing that was read as a whole."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries

    def entry(self, path: str) -> Entry | None:
        """See `Listing`."""
        return self._entries.get(path)

    def below(self, prefix: str) -> Mapping[str, Entry]:
        """See `Listing`."""
        if not prefix:
            return self._entries
        return {path: entry for path, entry in self._entries.items() if f"{path}/".startswith(f"{prefix}/")}

    def names(self, folder: str) -> set[str]:
        """See `Listing`."""
        prefix = f"{folder}/" if folder else ""
        return {path[len(prefix) :].partition("/")[0] for path in self._entries if path.startswith(prefix)}
