"""A forge on another host, as this machine last saw it: a bare repository that only ever grows.

The other host's hook decides what enters; this side never forces a ref, so that a forge which takes something back is
found out by whoever saw it before. Only a main that was moved back behind what never had receipts is followed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from filelock import FileLock

from modelsmith.forges.reader import MAIN, PULLS, pull_number
from modelsmith.forges.taken_back import common_step, only_unreceipted
from modelsmith.repository.git import Git
from modelsmith.repository.refs import local_refs, remote_refs
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure

FETCH = (
    "fetch",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-recurse-submodules",
    "--no-auto-maintenance",
    "--refmap=",
)


class Mirror:
    """Main and the pull requests of the forge at ``url``, kept in the bare repository ``path``.

    It names objects as ``clone`` does, which is what it takes them to. ``secrets`` gives the environment in which git
    is let in there, for each call anew; nothing of it is an argument or lies in a file.
    """

    def __init__(self, url: str, path: Path, clone: Git, secrets: Callable[[], Mapping[str, str]] = dict) -> None:
        self.url = url
        self.path = path
        self.secrets = secrets
        self._clone = clone

    def refresh(self) -> None:
        """Take over what the forge shows now.

        Raises:
            IntegrityFailure: ``rewound-forge`` when main or a pull request is gone or was rewound.
            InfrastructureFailure: the forge cannot be reached.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            self._refresh(Git(self.path))

    def _refresh(self, git: Git) -> None:
        if not (self.path / "HEAD").exists():
            self.path.mkdir(exist_ok=True)
            git.init("--bare", f"--object-format={self._clone.text('rev-parse', '--show-object-format')}")
        local = local_refs(git, MAIN, PULLS)
        remote = remote_refs(git, self.url, MAIN, PULLS, env=self.secrets())
        forget_gone(git, local.keys() - remote.keys())
        if local != remote:
            refs = (f"{MAIN}:{MAIN}", f"{PULLS}*:{PULLS}*")
            fetch = partial(self._fetch, git, refs)
            take_over(fetch, git, MAIN, remote.get(MAIN))

    def _fetch(self, git: Git, refs: Sequence[str]) -> bytes:
        return git.run(*FETCH, self.url, *refs, env=self.secrets())


def take_over(fetch: Callable[[], object], git: Git, main: str, remote: str | None) -> None:
    """Fetch, also where main was moved back behind what never had receipts.

    Args:
        fetch: Brings everything that is shown; where main was moved back it brings the objects, and is refused.
        git: Where to.
        main: The ref there that holds main.
        remote: Main as the forge shows it.

    Raises:
        IntegrityFailure: as `patiently`.
    """
    try:
        patiently(fetch)
    except IntegrityFailure:
        local_main = git.rev(main)
        base = common_step(git, local_main, remote) if local_main and remote and git.rev(remote) else None
        if local_main is None or base is None or not only_unreceipted(git, local_main, base):
            raise
        git.update_ref(main, base, local_main)
        patiently(fetch)


def forget_gone(git: Git, refs: Collection[str]) -> None:
    """Forget refs that the forge has no more, where they were no logs: names beneath or beside those of logs.

    Whoever may push to a forge without a hook puts them there; kept, one would stand in the way of a log's own name.

    Raises:
        IntegrityFailure: ``rewound-forge`` for main or a log.
    """
    lost = sorted(ref for ref in refs if ref == MAIN or pull_number(ref))
    if lost:
        raise rewound(f"{lost[0]} was removed from the forge since it was last fetched.")
    for ref in refs:
        git.run("update-ref", "-d", ref)


def patiently(fetch: Callable[[], object]) -> None:
    """Fetch, again when another process was just writing the same refs.

    Raises:
        IntegrityFailure: ``rewound-forge`` when a ref does not follow what was fetched before.
    """
    for attempt in range(5):
        try:
            fetch()
            return
        except InfrastructureFailure as error:
            output = str(error.details.get("stderr", ""))
            if "non-fast-forward" in output:
                problem = "The forge's main or one of its pull requests was rewound since it was last fetched."
                raise rewound(problem, output) from None
            if "lock" not in output or attempt == 4:
                raise
            time.sleep(0.05 * 2**attempt)


def rewound(problem: str, stderr: str = "") -> IntegrityFailure:
    """The error that a forge took something back; ``stderr`` is what git said."""
    return IntegrityFailure(
        "rewound-forge", problem, "Restore it from this clone: refs/modelsmith/ holds what was there.", stderr=stderr
    )
