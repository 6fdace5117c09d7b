"""Git's plumbing as typed calls: everything here reads and writes the object database, never work tree or index.

Nothing of a user's configuration, hooks, replacement refs or grafts can change an answer, so that two clones of one
history agree on every tree, change and merge. Needs git 2.39.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence, Set
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from modelsmith.repository import cat_file
from modelsmith.repository.answers import Answers, Key, key_of
from modelsmith.repository.invocation import command, environment, git_failed, git_missing
from modelsmith.repository.listing import Entry, FlatListing, Listing
from modelsmith.repository.paths import checked, folder
from modelsmith.schema.errors import GateNotCleared, InfrastructureFailure, InvalidInput
from modelsmith.schema.pull import Change

REGULAR = "100644"
EXECUTABLE = "100755"
SYMLINK = "120000"
SUBMODULE = "160000"

MOST_FILES = 1_000_000
"""Files that a tree may list at most; folders that name one another can hold billions in a few kilobytes."""

MERGE_SECONDS = 60
"""Time that git may take to merge two commits, or to find what both contain; it is stopped then."""

_BLOCK = 1 << 20
_LISTED_BYTES = 1 << 28
_KINDS = {"blob": "file", "commit": "commit"}
_NAME = re.compile(r"[A-Za-z0-9._/-]+")
_ID = re.compile(r"[0-9a-f]{7,64}")
_WHOLE_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_answers = Answers()
_SETTLED_SECONDS = 0.1
"""Age from which a file that is written again has another time of change, however coarse the file system's clock is."""


class Ident(NamedTuple):
    """Who made a commit, and when. Says nothing that is proven; proofs are signatures over content."""

    name: str
    email: str
    when: datetime


class Commit(NamedTuple):
    """One commit of a log."""

    id: str
    parents: tuple[str, ...]
    tree: str
    subject: str


class Brought(NamedTuple):
    """A file that a commit brings in this form to this place."""

    commit: str
    path: str
    mode: str
    blob: str


class Git:
    """Plumbing on one repository: a work tree's root or a bare repository. Enclosing repositories are never found.

    Concurrency: it holds nothing but the path, so threads may share one. A call is a git process of its own, unless
    what it asks cannot have changed since it was last asked (`modelsmith.repository.answers`). No call touches the
    index, the work tree or HEAD: commits are built in the object database, and `update_ref` is the only write that
    others can see. It moves a ref from the commit where it was seen, or fails: two writers cannot both win.

    Freshness: a name (`rev`, `tree`, `listing`) is looked up at each call, so two calls may see two commits of a moving
    branch. Resolve it once and go on with the id: what an id names never changes. Objects of a remote are there only
    after a fetch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *args: str, input: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        """Run a git command and return its output.

        Raises:
            InfrastructureFailure: ``git-failed`` with the command and git's words; ``git-missing``.
        """
        done = self._run(args, input, env)
        if done.returncode:
            raise git_failed(args, done)
        return done.stdout

    def lasting(
        self, *args: str, ids: Sequence[str], seconds: float | None = None, unless: Set[int] = frozenset()
    ) -> bytes | None:
        """Output of a read-only command about objects, whose ``ids`` come last; remembered when all are whole ids.

        None when it ends with a status of ``unless``, which is never remembered.

        Raises:
            InfrastructureFailure: as `run`.
            GateNotCleared: ``over-limits`` when git takes longer than ``seconds``.
        """
        ids = [_plain(oid) for oid in ids]
        key = key_of(self.path, self._plain_place(), args, ids)
        known = _answers.get(key) if key else None
        if known is not None:
            return known
        done = self._run((*args, *ids), seconds=seconds)
        if done.returncode in unless:
            return None
        if done.returncode:
            raise git_failed(args, done)
        if key:
            _answers.keep(key, done.stdout)
        return done.stdout

    def init(self, *options: str) -> None:
        """Make the folder a repository whose branch is main; no template of the user's is copied into it."""
        self.run("init", "--quiet", "--template=", "--initial-branch=main", *options)

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """Start a git command that is spoken to through its pipes; what it says on stderr is lost.

        Raises:
            InfrastructureFailure: ``git-missing``.
        """
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(
                command(self.path, args), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment(self.path)
            )
        except (FileNotFoundError, PermissionError):
            raise git_missing() from None

    def text(self, *args: str, input: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """`run`, decoded and stripped."""
        return self.run(*args, input=input, env=env).decode("utf-8", "replace").strip()

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
        found = self.text("ls-tree", "-d", commit, path).split()
        return found[2] if found else None

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
        asked = set(oids)
        contents = cat_file.read(self.path, sorted(asked), kind) if asked else {}
        wanted = sorted(asked - contents.keys())
        if not wanted:
            return contents
        out = self.run("cat-file", "--batch", input="".join(f"{oid}\n" for oid in wanted).encode())
        at = 0
        for oid in wanted:
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
        asked = set(oids)
        known = cat_file.sizes(self.path, asked) if asked else {}
        wanted = sorted(asked - known.keys())
        said = (
            self.run("cat-file", "--batch-check", input="".join(f"{oid}\n" for oid in wanted).encode())
            if wanted
            else b""
        )
        facts = (line.split() for line in said.decode("utf-8", "replace").splitlines())
        known |= {fact[0]: (fact[1], int(fact[2])) for fact in facts if len(fact) == 3}
        return {oid: size for oid, (kind, size) in known.items() if kind == "blob"}

    def sizes(self, oids: Collection[str]) -> dict[str, int]:
        """Bytes of each object, without its content.

        Raises:
            InfrastructureFailure: ``missing-object``.
        """
        known = cat_file.sizes(self.path, set(oids)) if oids else {}
        sizes = {oid: size for oid, (_, size) in known.items()}
        wanted = sorted(set(oids) - sizes.keys())
        if not wanted:
            return sizes
        lines = self.text("cat-file", "--batch-check", input="".join(f"{oid}\n" for oid in wanted).encode())
        for oid, line in zip(wanted, lines.splitlines(), strict=True):
            facts = line.split(" ")
            if len(facts) != 3:
                raise missing_object(oid, "not")
            sizes[oid] = int(facts[2])
        return sizes

    def merge_base(self, one: str, other: str) -> str | None:
        """The latest commit that both contain; None when they share no history.

        Where there are several, git merges those first, and what they have in common before: branches that were merged
        crosswise a few times keep it busy for ever. So nothing of that kind is merged.

        Raises:
            GateNotCleared: ``several-bases``, ``over-limits`` when git takes longer than `MERGE_SECONDS`.
        """
        said = self.lasting("merge-base", "--all", ids=(one, other), seconds=MERGE_SECONDS, unless={1})
        found = said.decode().split() if said else []
        if len(found) > 1:
            raise GateNotCleared(
                "several-bases",
                f"The proposal and main were merged crosswise: {len(found)} commits are the latest that both contain",
                "Rebase the proposal on main as it is now, or merge that main into it; then propose it again.",
            )
        return found[0] if found else None

    def count_commits(self, since: str, tip: str, most: int) -> int:
        """How many commits ``tip`` contains beyond ``since``; counted up to ``most``."""
        said = self.lasting("rev-list", "--count", f"--max-count={most}", ids=(tip, f"^{_plain(since)}"))
        assert said is not None
        return int(said)

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
        args = ("ls-tree", "-r", "-z", "--full-tree", _plain(rev), *(["--", below] if below else []))
        entries: dict[str, Entry] = {}
        for entry in self._listed(args, MOST_FILES, () if below else (rev,)):
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
        written = {checked(path): data for path, data in files.items() if data is not None}
        removed = [checked(path) for path, data in files.items() if data is None]
        with tempfile.TemporaryDirectory(prefix="modelsmith-") as scratch:
            env = {"GIT_INDEX_FILE": str(Path(scratch, "index"))}
            before = self.list_tree(parent) if parent else {}
            if parent:
                self.run("read-tree", _plain(parent), env=env)
            _refuse_overlaps((before.keys() - set(removed)) | written.keys())
            lines = [f"0 {before[path][1]}\t{path}" for path in removed if path in before]
            for path, oid in zip(written, self._write_blobs(list(written.values()), Path(scratch)), strict=True):
                mode = EXECUTABLE if path in before and before[path][0] == EXECUTABLE else REGULAR
                lines.append(f"{mode} {oid}\t{path}")
            self.run("update-index", "-z", "--index-info", input="".join(f"{x}\0" for x in lines).encode(), env=env)
            tree = self.text("write-tree", env=env)
        return self.commit_tree(tree, [*([parent] if parent else []), *extra_parents], message, author)

    def commit_tree(self, tree: str, parents: Sequence[str], message: str, author: Ident) -> str:
        """Make a commit of a tree; no ref moves."""
        when = f"@{int(author.when.timestamp())} {author.when.strftime('%z')[:5] or '+0000'}"
        env = {
            f"GIT_{role}_{fact}": value
            for role in ("AUTHOR", "COMMITTER")
            for fact, value in (("NAME", author.name), ("EMAIL", author.email), ("DATE", when))
        }
        flags = [flag for parent in parents for flag in ("-p", _plain(parent))]
        return self.text("commit-tree", _plain(tree), *flags, input=message.encode(), env=env)

    def merge_tree(self, base: str, head: str) -> str:
        """Tree of the merge of two commits: the same in every clone, as neither work tree nor settings have a say.

        ``info/attributes`` has one: git reads it whatever it is told. Only who owns the repository can write it.

        Raises:
            GateNotCleared: ``conflict`` with the paths that do not merge cleanly; as `merge_base`.
        """
        self.merge_base(base, head)
        args = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", _plain(base), _plain(head))
        key = key_of(self.path, self._plain_place(), args[:-2], (base, head))
        known = _answers.get(key) if key else None
        if known and self.tree(known.decode()):
            return known.decode()
        inside = self._inside()
        done = self._run(args, env={"GIT_DIR": inside}, folder=inside, seconds=MERGE_SECONDS)
        unrelated = b"unrelated histories" in done.stderr
        if done.returncode > 1 and not unrelated:
            raise git_failed(args, done)
        tree, *conflicts = [utf8(part) for part in done.stdout.split(b"\0") if part] or [""]
        if done.returncode:
            raise GateNotCleared(
                "conflict",
                "The proposal shares no history with its base"
                if unrelated
                else f"The proposal does not merge cleanly: {', '.join(conflicts[:5])}",
                "Rebase the proposal on the current base and ask for approval again.",
                paths=conflicts,
            )
        if key:
            _answers.keep(key, tree.encode())
        return tree

    def _inside(self) -> str:
        """The folder in which git keeps this repository; git is asked only where it may lie elsewhere."""
        place = self._plain_place()
        return str(place.resolve()) if place else self.text("rev-parse", "--absolute-git-dir")

    def _plain_place(self) -> Path | None:
        """That folder where it is plain to see; None for a linked work tree, or what is no repository.

        A commit can put a file HEAD or config into a work tree, so that folder counts only where nothing is ``.git``.
        """
        inner = self.path / ".git"
        place = inner if os.path.lexists(inner) else self.path
        return place if not place.is_symlink() and (place / "HEAD").is_file() else None

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

    def brought(self, commits: Sequence[str]) -> list[Brought]:
        """What each of the commits holds and none of its parents holds in the same place.

        Together with what their parents hold that are not among them, that is every file that any of them holds.

        Raises:
            GateNotCleared: ``over-limits`` for more than is ever looked at.
            IntegrityFailure: as `change`.
        """
        from modelsmith.repository.objects import ObjectReader

        with ObjectReader(self.path) as reader:
            return reader.brought(commits)

    def update_ref(self, ref: str, new: str, old: str | None) -> None:
        """Move a ref from ``old`` to ``new`` in one step; ``old`` None: the ref must not exist yet.

        Raises:
            InfrastructureFailure: ``ref-moved`` when the ref is not at ``old``; it is left as it was.
        """
        expected = old or "0" * len(new)
        args = ("update-ref", "--stdin", "-z")
        done = self._run(args, f"update {ref}\0{new}\0{expected}\0".encode())
        if not done.returncode:
            return
        now = self._run(("rev-parse", "--verify", "--quiet", _plain(ref))).stdout.decode().strip() or None
        if now != old:
            raise InfrastructureFailure(
                "ref-moved",
                f"{ref} was moved by someone else: it is at {now}, not at {old}",
                "Run the command again; it will start from the new state.",
                ref=ref,
                expected=old,
                found=now,
            )
        raise git_failed(args, done)

    def setting(self, name: str) -> str | None:
        """A setting of this repository's own configuration, which may be empty; None when it has none of that name."""
        found = self.settings(name)
        return found[-1] if found else None

    def settings(self, name: str) -> tuple[str, ...]:
        """Every value of a setting that may be given several times, in the order of the file.

        Raises:
            InfrastructureFailure: ``git-failed``, or why git cannot read the configuration; not for one without it.
        """
        return tuple(value for key, value in self._configuration() if key == name)

    def _configuration(self) -> list[tuple[str, str]]:
        """Name and value of each setting in the repository's own configuration; nothing of a file that is not there."""
        args = ("config", "--local", "--list", "-z")
        key = self._config_key(args)
        said = _answers.get(key) if key else None
        if said is None:
            done = self._run(args)
            if done.returncode:
                file = self.text("rev-parse", "--path-format=absolute", "--git-path", "config")
                if Path(file).exists():
                    raise git_failed(args, done)
                return []
            said = done.stdout
            if key:
                _answers.keep(key, said)
        pairs = (os.fsdecode(setting).partition("\n") for setting in said.split(b"\0")[:-1])
        return [(name, value) for name, _, value in pairs]

    def _config_key(self, args: Sequence[str]) -> Key | None:
        """What a setting is remembered by: the configuration file as it is now, unless it was written just now."""
        place = self._plain_place()
        if place is None:
            return None
        try:
            there = (place / "config").stat()
        except OSError:
            return None
        settled = abs(time.time() - there.st_mtime) > _SETTLED_SECONDS
        stamp = f"{there.st_dev} {there.st_ino} {there.st_size} {there.st_mtime_ns}"
        return key_of(self.path, place, (*args, stamp), ()) if settled else None

    def branch(self) -> str | None:
        """Full name of the branch that is checked out, born or not; None when HEAD is detached."""
        return self.symbolic_ref("HEAD")

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

    def symbolic_ref(self, name: str) -> str | None:
        """The ref that a symbolic ref leads to; None when it is no symbolic ref."""
        args = ("symbolic-ref", "--quiet", _plain(name))
        done = self._run(args)
        if done.returncode > 1:
            raise git_failed(args, done)
        return done.stdout.decode("utf-8", "replace").strip() or None

    def _named(self, name: str, kind: str) -> str | None:
        if not name or name.startswith("-"):
            return None
        if _WHOLE_ID.fullmatch(name) and cat_file.kind(self.path, name) not in (None, kind, "tag", "commit"):
            return None
        plain = _NAME.fullmatch(name) and not name.startswith("refs/") and name != "HEAD"
        is_id = reads_as_id(name)
        for full in (f"refs/heads/{name}", f"refs/remotes/{name}", name) if plain and not is_id else (name,):
            found = self._find(full, kind) if _NAME.fullmatch(full) else None
            if found is None:
                done = self._run(("rev-parse", "--verify", "--quiet", f"{full}^{{{kind}}}"))
                found = None if done.returncode else done.stdout.decode().strip()
            if found:
                return found if kind != "commit" or not is_id or found.startswith(name) else None
        return None

    def _find(self, name: str, kind: str) -> str | None:
        """Id of what a name means; None when it is not of this kind, or not known to a process that waits."""
        return cat_file.find(self.path, name, kind)

    def _listed(self, args: Sequence[str], most: int, ids: Sequence[str]) -> list[bytes]:
        """What a command lists, each followed by a NUL byte; it is stopped when that becomes too much.

        Remembered where it is about objects that ``ids`` name whole.
        """
        key = key_of(self.path, self._plain_place(), args, ids) if ids else None
        known = _answers.get(key) if key else None
        if known is not None:
            return known.split(b"\0")[:-1]
        read, count, size = [], 0, 0
        with self.start(*args) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.close()
            while block := process.stdout.read(_BLOCK):
                read.append(block)
                count += block.count(b"\0")
                size += len(block)
                if count > most or size > _LISTED_BYTES:
                    process.kill()
                    raise over_limits("It holds more files than are ever listed", "Split the proposal.")
        if process.returncode:
            self.run(*args)
        said = b"".join(read)
        if key:
            _answers.keep(key, said)
        return said.split(b"\0")[:-1]

    def _write_blobs(self, contents: Sequence[bytes], scratch: Path) -> list[str]:
        """Blob ids of contents, written by a single process."""
        names = []
        for number, data in enumerate(contents):
            file = scratch / str(number)
            file.write_bytes(data)
            names.append(f"{file}\n")
        out = self.run("hash-object", "-w", "--no-filters", "--stdin-paths", input="".join(names).encode())
        return out.decode().split()

    def _run(
        self,
        args: Sequence[str],
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        folder: str | None = None,
        seconds: float | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                command(folder or self.path, args),
                input=input,
                capture_output=True,
                env={**environment(self.path), **(env or {})},
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            raise over_limits(f"git {args[0]} takes longer than {seconds} seconds", "Rebase the proposal.") from None
        except (FileNotFoundError, PermissionError):
            raise git_missing() from None


def reads_as_id(name: str) -> bool:
    """Whether a name reads as a commit's id or the beginning of one; then it never means a branch or tag."""
    return _ID.fullmatch(name) is not None


def over_limits(what: str, mend: str) -> GateNotCleared:
    """The refusal of something that is larger than anybody looks at."""
    return GateNotCleared("over-limits", what, mend)


def missing_object(oid: str, what: str) -> InfrastructureFailure:
    """The failure for an object that is not, or is not what it should be, in the object database."""
    return InfrastructureFailure(
        "missing-object",
        f"Object {oid} is {what} in this repository",
        "Fetch the full history (`git fetch --unshallow`), then run `git fsck`.",
        object=oid,
    )


def _plain(rev: str) -> str:
    """A revision that git cannot take for an option."""
    if not rev or rev.startswith("-"):
        raise InvalidInput(
            "bad-revision", f"{rev!r} does not name a commit", "Name a branch, tag or commit id.", rev=rev
        )
    return rev


def _refuse_overlaps(paths: Set[str]) -> None:
    for path in paths:
        parts = path.split("/")
        above = next((top for end in range(1, len(parts)) if (top := "/".join(parts[:end])) in paths), None)
        if above:
            raise InvalidInput(
                "path-conflict",
                f"{path} needs a folder where the file {above} stands",
                f"Remove {above} in one go.",
                path=str(path),
                above=above,
            )


def utf8(path: bytes) -> str:
    """A path as text. Raises InvalidInput (``bad-path``) when it is not UTF-8."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(
            "bad-path",
            f"The path {path!r} is not UTF-8",
            "Rename the file with plain characters, then commit again.",
            path=str(path),
        ) from None
