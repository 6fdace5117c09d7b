"""Git's plumbing as typed calls: everything here reads and writes the object database, never work tree or index.

Nothing of a user's configuration, hooks, replacement refs or grafts can change an answer, so that two clones of one
history agree on every tree, change and merge. Needs git 2.39.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from modelsmith.repository import cat_file
from modelsmith.repository.answers import key_of
from modelsmith.repository.commits import AddedFile, Commit
from modelsmith.repository.git_process import answers, missing_object, plain
from modelsmith.repository.git_refs import GitRefs
from modelsmith.repository.git_trees import build_tree
from modelsmith.repository.invocation import git_failed
from modelsmith.repository.listing import MOST_FILES, Entry, FlatListing, Listing
from modelsmith.repository.paths import folder, utf8
from modelsmith.schema.errors import GateNotCleared
from modelsmith.schema.pull import Change

MERGE_SECONDS = 60
"""Time that git may take to merge two commits, or to find what both contain; it is stopped then."""

_KINDS = {"blob": "file", "commit": "commit"}
_NAME = re.compile(r"[A-Za-z0-9._/-]+")
_ID = re.compile(r"[0-9a-f]{7,64}")
_WHOLE_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Ident(NamedTuple):
    """Who made a commit, and when. Says nothing that is proven; proofs are signatures over content."""

    name: str
    email: str
    when: datetime


class Git(GitRefs):
    """Plumbing on one repository: what it holds, what two commits have in common, and new commits.

    Concurrency: it holds nothing but the path, so threads may share one. A call is a git process of its own, unless
    what it asks cannot have changed since it was last asked (`modelsmith.repository.answers`). No call touches the
    index, the work tree or HEAD: commits are built in the object database, and `update_ref` is the only write that
    others can see. It moves a ref from the commit where it was seen, or fails: two writers cannot both win.

    Freshness: a name (`rev`, `tree`, `listing`) is looked up at each call, so two calls may see two commits of a moving
    branch. Resolve it once and go on with the id: what an id names never changes. Objects of a remote are there only
    after a fetch.
    """

    def rev(self, name: str) -> str | None:
        """Id of the commit that a ref or abbreviation names; None when there is none.

        A branch comes before a tag of its name, and a name that reads as an id is one.
        """
        return self._named(name, "commit")

    def tree(self, name: str) -> str | None:
        """Id of the tree that an id names, or that a commit has; None when there is none."""
        return self._named(name, "tree")

    def folder(self, commit: str, path: str) -> str | None:
        """Id of a folder's tree in a commit or tree, given by its id; None when there is no such folder."""
        fields = self.text("ls-tree", "-d", commit, path).split()
        return fields[2] if fields else None

    def read_blob(self, oid: str) -> bytes:
        """Content of one blob."""
        return self.read_blobs([oid])[oid]

    def read_blobs(self, oids: Sequence[str]) -> dict[str, bytes]:
        """Contents by blob id, read by a single process.

        Raises:
            InfrastructureFailure: ``missing-object`` when one is not in the object database, or is not a blob.
        """
        return self._read_objects(oids, "blob")

    def _read_objects(self, oids: Sequence[str], kind: str) -> dict[str, bytes]:
        wanted_ids = set(oids)
        contents = cat_file.read(self.path, sorted(wanted_ids), kind) if wanted_ids else {}
        unread = sorted(wanted_ids - contents.keys())
        if not unread:
            return contents
        out = self.run("cat-file", "--batch", input="".join(f"{oid}\n" for oid in unread).encode())
        at = 0
        for oid in unread:
            end = out.index(b"\n", at)
            header = out[at:end].decode("utf-8", "replace").split(" ")
            if len(header) != 3 or header[:2] != [oid, kind]:
                raise missing_object(oid, f"not a {_KINDS[kind]}")
            start, size = end + 1, int(header[2])
            contents[oid] = out[start : start + size]
            at = start + size + 1
        return contents

    def blob_sizes(self, oids: Sequence[str]) -> dict[str, int]:
        """Sizes of those of the objects that are blobs of this repository."""
        wanted_ids = set(oids)
        kinds_and_sizes = cat_file.sizes(self.path, wanted_ids) if wanted_ids else {}
        missing = sorted(wanted_ids - kinds_and_sizes.keys())
        output = (
            self.run("cat-file", "--batch-check", input="".join(f"{oid}\n" for oid in missing).encode())
            if missing
            else b""
        )
        facts = (line.split() for line in output.decode("utf-8", "replace").splitlines())
        kinds_and_sizes |= {fact[0]: (fact[1], int(fact[2])) for fact in facts if len(fact) == 3}
        return {oid: size for oid, (kind, size) in kinds_and_sizes.items() if kind == "blob"}

    def sizes(self, oids: Collection[str]) -> dict[str, int]:
        """Bytes of each object, without its content.

        Raises:
            InfrastructureFailure: ``missing-object``.
        """
        kinds_and_sizes = cat_file.sizes(self.path, set(oids)) if oids else {}
        sizes = {oid: size for oid, (_, size) in kinds_and_sizes.items()}
        missing = sorted(set(oids) - sizes.keys())
        if not missing:
            return sizes
        lines = self.text("cat-file", "--batch-check", input="".join(f"{oid}\n" for oid in missing).encode())
        for oid, line in zip(missing, lines.splitlines(), strict=True):
            facts = line.split(" ")
            if len(facts) != 3:
                raise missing_object(oid, "not")
            sizes[oid] = int(facts[2])
        return sizes

    def merge_base(self, commit: str, other: str) -> str | None:
        """The latest commit that both contain; None when they share no history.

        Where there are several, git merges those first, and what they have in common before: branches that were merged
        crosswise a few times keep it busy for ever. So nothing of that kind is merged.

        Raises:
            GateNotCleared: ``several-bases``, ``over-limits`` when git takes longer than `MERGE_SECONDS`.
        """
        output = self.lasting("merge-base", "--all", ids=(commit, other), seconds=MERGE_SECONDS, unless={1})
        bases = output.decode().split() if output else []
        if len(bases) > 1:
            raise GateNotCleared(
                "several-bases",
                f"The proposal and main were merged crosswise: {len(bases)} commits are the latest that both contain",
                "Rebase the proposal on main as it is now, or merge that main into it; then propose it again.",
            )
        return bases[0] if bases else None

    def count_commits(self, since: str, tip: str, most: int) -> int:
        """How many commits ``tip`` contains beyond ``since``; counted up to ``most``."""
        output = self.lasting("rev-list", "--count", f"--max-count={most}", ids=(tip, f"^{plain(since)}"))
        assert output is not None
        return int(output)

    def read_commits(self, commits: Sequence[str]) -> dict[str, bytes]:
        """Raw commit objects by id, read by a single process.

        Raises:
            InfrastructureFailure: ``missing-object``.
        """
        return self._read_objects(commits, "commit")

    def listing(self, rev: str) -> Listing:
        """Every file of a commit or tree."""
        return FlatListing(self.list_tree(rev))

    def list_tree(self, rev: str, prefix: str = "") -> dict[str, Entry]:
        """Path to (mode, blob id) of every entry at or below ``prefix`` (a folder or file), submodules included.

        Raises:
            GateNotCleared: ``over-limits`` for more than `MOST_FILES`.
        """
        below = folder(prefix)
        args = ("ls-tree", "-r", "-z", "--full-tree", plain(rev), *(["--", below] if below else []))
        entries: dict[str, Entry] = {}
        for entry in self.listed(args, MOST_FILES, () if below else (rev,)):
            facts, path = entry.split(b"\t", 1)
            mode, _, oid = facts.decode().split(" ")
            entries[utf8(path)] = (mode, oid)
        return entries

    def commit_files(
        self,
        parent: str | None,
        files: Mapping[str, bytes | None],
        message: str,
        author: Ident,
        extra_parents: Sequence[str] = (),
    ) -> str:
        """Commit ``files`` on top of ``parent``'s tree (None: on nothing) and return the commit; no ref moves.

        None as content removes the file. A path that was executable stays so.

        Raises:
            InvalidInput: ``outside-repository`` for a path that leaves the repository, ``path-conflict`` when a path
                would be a file and a folder at once.
        """
        tree = build_tree(self, parent, self.list_tree(parent) if parent else {}, files)
        return self.commit_tree(tree, [*([parent] if parent else []), *extra_parents], message, author)

    def commit_tree(self, tree: str, parents: Sequence[str], message: str, author: Ident) -> str:
        """Make a commit of a tree; no ref moves."""
        when = f"@{int(author.when.timestamp())} {author.when.strftime('%z')[:5] or '+0000'}"
        env = {
            f"GIT_{role}_{fact}": value
            for role in ("AUTHOR", "COMMITTER")
            for fact, value in (("NAME", author.name), ("EMAIL", author.email), ("DATE", when))
        }
        flags = [flag for parent in parents for flag in ("-p", plain(parent))]
        return self.text("commit-tree", plain(tree), *flags, input=message.encode(), env=env)

    def merge_tree(self, base: str, head: str) -> str:
        """Tree of the merge of two commits: the same in every clone, as neither work tree nor settings have a say.

        ``info/attributes`` has one: git reads it whatever it is told. Only who owns the repository can write it.

        Raises:
            GateNotCleared: ``conflict`` with the paths that do not merge cleanly; as `merge_base`.
        """
        self.merge_base(base, head)
        args = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", plain(base), plain(head))
        key = key_of(self.path, self.plain_place(), args[:-2], (base, head))
        cached = answers.get(key) if key else None
        if cached and self.tree(cached.decode()):
            return cached.decode()
        inside = self.inside()
        process = self.attempt(args, env={"GIT_DIR": inside}, folder=inside, seconds=MERGE_SECONDS)
        unrelated = b"unrelated histories" in process.stderr
        if process.returncode > 1 and not unrelated:
            raise git_failed(args, process)
        tree, *conflicts = [utf8(part) for part in process.stdout.split(b"\0") if part] or [""]
        if process.returncode:
            raise GateNotCleared(
                "conflict",
                "The proposal shares no history with its base"
                if unrelated
                else f"The proposal does not merge cleanly: {', '.join(conflicts[:5])}",
                "Rebase the proposal on the current base and ask for approval again.",
                paths=conflicts,
            )
        if key:
            answers.keep(key, tree.encode())
        return tree

    def change(self, old: str, new: str) -> Change:
        """What differs between two commits' (or trees') files; a rename is a removal and an addition.

        Read folder by folder, as ``verify`` reads: ``git diff-tree`` would first hold all of it in memory.

        Raises:
            GateNotCleared: ``over-limits`` for more than `MOST_PATHS`.
            IntegrityFailure: ``damaged-object`` for a folder that ``git fsck`` would refuse.
        """
        from modelsmith.repository.objects import ObjectReader

        with ObjectReader(self.path) as reader:
            return reader.change(old, new)

    def added_files(self, commits: Sequence[str]) -> list[AddedFile]:
        """What each of the commits holds and none of its parents holds in the same place.

        Together with what their parents hold that are not among them, that is every file that any of them holds.

        Raises:
            GateNotCleared: ``over-limits`` for more than is ever looked at.
            IntegrityFailure: as `change`.
        """
        from modelsmith.repository.objects import ObjectReader

        with ObjectReader(self.path) as reader:
            return reader.added_files(commits)

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether ``new`` contains ``old`` (a commit contains itself)."""
        return self.lasting("merge-base", "--is-ancestor", ids=(old, new), unless={1}) is not None

    def first_parent_log(self, tip: str) -> list[Commit]:
        """Commits along the first parents, oldest first."""
        form = "--format=%H%x00%P%x00%T%x00%s%x00"
        out = self.lasting(
            "rev-list", "--first-parent", "--reverse", "--no-commit-header", form, ids=(self.rev(tip) or tip,)
        )
        assert out is not None
        fields = out.decode("utf-8", "replace").replace("\0\n", "\0").split("\0")[:-1]
        return [
            Commit(fields[i], tuple(fields[i + 1].split()), fields[i + 2], fields[i + 3])
            for i in range(0, len(fields), 4)
        ]

    def first_parents(self, tip: str, most: int | None = None) -> dict[str, tuple[str, ...]]:
        """Ids of the commits along the first parents, newest first, each with its parents; the newest if not all."""
        some = () if most is None else (f"--max-count={most}",)
        out = self.lasting("rev-list", "--first-parent", "--parents", *some, ids=(tip,))
        assert out is not None
        return {commit: tuple(parents) for commit, *parents in map(str.split, out.decode().splitlines())}

    def _named(self, name: str, kind: str) -> str | None:
        if not name or name.startswith("-"):
            return None
        if _WHOLE_ID.fullmatch(name) and cat_file.kind(self.path, name) not in (None, kind, "tag", "commit"):
            return None
        short = _NAME.fullmatch(name) and not name.startswith("refs/") and name != "HEAD"
        is_id = reads_as_id(name)
        for full in (f"refs/heads/{name}", f"refs/remotes/{name}", name) if short and not is_id else (name,):
            oid = self._find(full, kind) if _NAME.fullmatch(full) else None
            if oid is None:
                process = self.attempt(("rev-parse", "--verify", "--quiet", f"{full}^{{{kind}}}"))
                oid = None if process.returncode else process.stdout.decode().strip()
            if oid:
                return oid if kind != "commit" or not is_id or oid.startswith(name) else None
        return None

    def _find(self, name: str, kind: str) -> str | None:
        """Id of what a name means; None when it is not of this kind, or not known to a process that waits."""
        return cat_file.find(self.path, name, kind)


def reads_as_id(name: str) -> bool:
    """Whether a name reads as a commit's id or the beginning of one; then it never means a branch or tag."""
    return _ID.fullmatch(name) is not None
