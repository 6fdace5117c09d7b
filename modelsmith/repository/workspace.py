"""A clone that someone works in: where it is, which forge it speaks to, and who acts in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from modelsmith.governance.reserved import why_local
from modelsmith.governance.shape import PROMOTIONS
from modelsmith.repository.eval_tree import edited_paths
from modelsmith.repository.git import Git
from modelsmith.repository.paths import place
from modelsmith.repository.tree import Revision, WorkTree
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput
from modelsmith.schema.plain_file import is_open_to_all
from modelsmith.schema.progress import Notify, silent
from modelsmith.schema.steps import step

GLANCE = 0.2
"""Seconds for which a lock is waited for: somebody may be looking whether it is held."""


def home() -> Path:
    """Folder for what outlives clones: keys, artifact store, converted base models.

    ``MODELSMITH_HOME`` names it, else ``$XDG_DATA_HOME/modelsmith``, else ``~/.local/share/modelsmith``.

    Raises:
        InvalidInput: ``empty-variable``; ``others-may-write`` where everybody may make files in it, and so tokens,
            settings and keys that this machine would believe.
    """
    folder = _named_home()
    if is_open_to_all(folder):
        raise InvalidInput(
            "others-may-write",
            f"Everybody on this machine may write in {folder}, where keys, tokens and settings lie",
            f"Look at what lies there, then, as its owner: chmod o-w {folder}. If you may not, set "
            "MODELSMITH_HOME to a new folder, which is made for its owner and group.",
            path=str(folder),
        )
    return folder


def _named_home() -> Path:
    explicit = os.environ.get("MODELSMITH_HOME")
    if explicit == "":
        raise InvalidInput("empty-variable", "MODELSMITH_HOME is set, and empty", "Give it a folder, or unset it.")
    if explicit:
        return place(Path(explicit), Path.cwd()).resolve()
    data = os.environ.get("XDG_DATA_HOME")
    return place(Path(data or "~/.local/share"), Path.cwd()) / "modelsmith"


def refuse_local(git: Git, commit: str) -> None:
    """Refuse a commit whose top holds what belongs to one machine, such as ``.iterate``: somebody planted it.

    A commit that is not there, or cannot be read, is for others to report.

    Raises:
        IntegrityFailure: ``reserved-path``.
    """
    try:
        listed = git.run("ls-tree", "-z", "--name-only", commit)
    except InfrastructureFailure:
        return
    for name in listed.decode("utf-8", "replace").split("\0"):
        if why := why_local(name):
            raise IntegrityFailure(
                "reserved-path",
                f"{name!a} is part of {commit}, which no commit may hold: {why}",
                "Nothing of it is used. Check out a commit without it; if it is on main, find out who put it there "
                "(`git log -- PATH`), and have it removed.",
                path=name,
                commit=commit,
            )


def _refuse_home(workspace: Workspace) -> None:
    """Keys, store and models may lie in the work tree only where no commit can put anything, as the demo's do."""
    home = workspace.home.resolve()
    if home.is_relative_to(workspace.root) and not why_local(home.relative_to(workspace.root).as_posix()):
        raise InvalidInput(
            "home-in-clone",
            f"MODELSMITH_HOME is {home}, in the work tree, where a commit could put keys and models",
            "Name a folder outside of every clone.",
            home=str(home),
        )


@dataclass(frozen=True)
class Workspace:
    """One clone of a promotion repository."""

    root: Path
    home: Path = field(default_factory=home)
    notify: Notify = silent
    part: str = ""
    """Folder within the clone's private one that this view keeps everything in; see `apart`."""
    role: str | None = None
    """Role of the session that works in it; None for a person's own."""

    @classmethod
    def find(cls, start: Path, notify: Notify = silent, role: str | None = None) -> Workspace:
        """The workspace that ``start`` lies in.

        Raises:
            InvalidInput: ``not-a-repository`` when no parent is a git work tree with a promotion repository;
                ``home-in-clone`` when keys and store would lie in it.
            IntegrityFailure: as `refuse_local`, of what is checked out.
        """
        for folder in (start.resolve(), *start.resolve().parents):
            if (folder / ".git").exists() and (folder / ".github" / "governance" / "policy.yaml").is_file():
                workspace = cls(folder, notify=notify, role=role)
                _refuse_home(workspace)
                refuse_local(workspace.git, "HEAD")
                return workspace
        make = step("init", {"directory": "DIR"}, kit="adtech")
        raise InvalidInput(
            "not-a-repository",
            f"{start} is not inside a promotion repository",
            "Change into one, or make one with `{next}`.",
            start=str(start),
        ).then(make)

    @property
    def git(self) -> Git:
        """Plumbing on this clone."""
        return Git(self.root)

    @property
    def files(self) -> WorkTree:
        """Governed files as they are on disk."""
        return WorkTree(self.root)

    def revision(self, rev: str) -> Revision:
        """Governed files as they are in a commit."""
        return Revision(self.git, rev)

    @cached_property
    def private(self) -> Path:
        """Folder of everything that the toolkit keeps for this clone and reads again.

        Runs, ledger, loop state, caches, locks, job folders, the mirror of a forge elsewhere and what was verified. It
        lies under the git directory, where no commit can put anything: git checks nothing out there. Linked work trees
        share it.

        Raises:
            InfrastructureFailure: ``git-failed`` when this is not a git repository.
        """
        common = Path(self.git.text("rev-parse", "--path-format=absolute", "--git-common-dir"))
        return common / "modelsmith" / self.part

    def apart(self, part: str) -> Workspace:
        """This clone with runs, ledger, caches and locks of its own: nothing kept so far is taken over."""
        return replace(self, part=part)

    def cluster_folder(self, cluster: str) -> Path:
        """Folder of one cluster's runs, jobs and logs."""
        return self.private / cluster

    @property
    def models(self) -> Path:
        """Cache of converted base models, by digest."""
        return self.home / "models"

    @property
    def models_memory(self) -> Path:
        """File that says which files of converted base models were hashed before; no commit reaches it."""
        return self.private / "models.json"

    def store(self, configured: str | None) -> Path:
        """Folder of the artifact store; ``configured`` is the cluster's ``store:``."""
        return place(Path(configured), self.root) if configured else self.home / "store"

    def setting(self, name: str) -> str | None:
        """A setting of this clone, kept in ``.git/config`` under ``modelsmith.<name>``.

        Raises:
            InvalidInput: ``empty-setting`` for one that is there and says nothing: whoever wrote it meant something.
        """
        value = self.git.setting(f"modelsmith.{name}")
        if value == "":
            raise InvalidInput(
                "empty-setting",
                f"modelsmith.{name} is set in this clone, and empty",
                f"Give it a value, or remove it: `git config --unset modelsmith.{name}`.",
                name=name,
            )
        return value

    def settings(self, name: str) -> tuple[str, ...]:
        """Every value of a setting that may be given several times; none where it is not set."""
        return self.git.settings(f"modelsmith.{name}")

    def require_clean(self) -> None:
        """Refuse to go on when governed files differ from the commit; promotions are no person's to write.

        Raises:
            InvalidInput: ``dirty-tree`` with the paths.
        """
        commit = self.git.rev("HEAD")
        dirty = edited_paths(self.git, self.files, commit, without=PROMOTIONS) if commit else []
        if dirty:
            raise InvalidInput(
                "dirty-tree",
                f"The work tree has uncommitted changes: {', '.join(dirty[:5])}{' ...' if len(dirty) > 5 else ''}",
                "Commit them (and open a pull request), or set them aside with `git stash -u`.",
                paths=dirty,
            )

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold a lock of this clone for the block, against other processes and threads; ``name`` says on what.

        Raises:
            InfrastructureFailure: ``busy`` when somebody else holds it; ``not-writable``.
        """
        lock = self._acquired(name)
        try:
            yield
        finally:
            lock.release()

    def _acquired(self, name: str) -> FileLock:
        folder = self.private / "locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f"{name}.lock", timeout=GLANCE)
            lock.acquire()
        except Timeout:
            raise InfrastructureFailure(
                "busy",
                f"Another process is working on {name}",
                "Wait for it to end, then run the command again; `{next}` says how far it is.",
                lock=name,
            ).then(step("status", {})) from None
        except OSError as error:
            raise InfrastructureFailure(
                "not-writable",
                f"{folder}: {error.strerror}",
                "Make the clone writable for this user.",
                path=str(folder),
            ) from None
        return lock

    def is_locked(self, name: str) -> bool:
        """Whether a process holds the lock at this moment; where nobody can tell, none does."""
        path = self.private / "locks" / f"{name}.lock"
        if not path.is_file():
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False
