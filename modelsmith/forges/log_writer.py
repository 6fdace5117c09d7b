"""How a log of signed events grows: an event is signed, committed, and pushed by compare-and-swap.

Refs move only by `git push` with a lease, so two writers cannot overwrite each other. Whoever was slower reads again
and begins again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from modelsmith.forges.announced import announcing_only
from modelsmith.forges.events import (
    LoggedEvent,
    attested_files,
    event_files,
)
from modelsmith.forges.mirror import FETCH, Mirror, forget_gone, take_over
from modelsmith.forges.port import ForgeIdentity
from modelsmith.forges.reader import MAIN, PULLS, Reader
from modelsmith.forges.refusal import find_refusal
from modelsmith.repository.git import Git, Ident
from modelsmith.repository.refs import local_refs, remote_refs
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import InfrastructureFailure, IntegrityFailure, InvalidInput, ModelsmithError
from modelsmith.schema.promotion import EVENT_NAMESPACE
from modelsmith.schema.pull import PullEvent, SignedApproval
from modelsmith.schema.steps import step
from modelsmith.signing import ssh

FETCHED_MAIN = "refs/modelsmith/main"
"""Where `SignedLogs.fetch_into` leaves main in a clone."""

_ROOT = Ident("modelsmith", "modelsmith@modelsmith.invalid", datetime.fromtimestamp(1, UTC))
ATTEMPTS = 20
"""How often a writer begins again when others were faster."""
_PUSH = ("push", "--no-verify", "--recurse-submodules=no")
_MISTAKEN = ("matches more than one", "stale info")
_ALSO = ("refs/", "refs/tags/", "refs/heads/", "refs/remotes/")
"""What git says of a ref's name, and where it looks for it, too: no forge of one's own lets such a ref in."""


class LogWriter:
    """Writes to the refs of a forge, and takes what it holds into the clone.

    Args:
        bare: The bare repository, or the mirror of one on another host.
        clone: The clone that proposals and merges are made in; holds the acting person's new objects.
        identity: Who acts, and with which key; None to read only.
        mirror: Set when the forge is on another host: what is read comes through it, what is pushed goes to its URL.
        refusal: The error behind what a refused push printed; None when nobody refused it.
    """

    def __init__(
        self,
        bare: Path,
        clone: Git,
        identity: ForgeIdentity | None,
        mirror: Mirror | None = None,
        refusal: Callable[[str], ModelsmithError | None] = find_refusal,
    ) -> None:
        self.bare = bare
        self._mirror = mirror
        self.clone = clone
        self._identity = identity
        self._refusal = refusal
        self._reader = Reader(Git(bare))

    @property
    def identity(self) -> ForgeIdentity:
        """Identity in whose name the log is written.

        Raises:
            InvalidInput: ``no-identity`` when the forge was opened to read only.
        """
        if self._identity is None:
            raise InvalidInput(
                "no-identity",
                "This clone has no identity of its own to act with.",
                "Say who acts with --key, or set modelsmith.identity and modelsmith.keys with `git config`.",
            )
        return self._identity

    def _refresh(self) -> None:
        if self._mirror:
            self._mirror.refresh()

    def _tip(self, number: int) -> str:
        tip = self._reader.tips().get(number)
        if tip is None:
            raise unknown_pull(number)
        return tip

    def _bring(self, clone: Git) -> str:
        """Take what the forge was last seen with into a clone; the commit of main."""
        refs = (f"{MAIN}:{FETCHED_MAIN}", f"{PULLS}*:{PULLS}*")
        fetch = partial(clone.run, *FETCH, str(self.bare.resolve()), *refs)
        if not self.bare.exists():
            fetch()  # which says, in git's words, that there is no forge
        remote, local = local_refs(self._reader.git, MAIN, PULLS), local_refs(clone, FETCHED_MAIN, PULLS)
        at, had = remote.pop(MAIN, None), local.pop(FETCHED_MAIN, None)
        if at is not None:
            forget_gone(clone, local.keys() - remote.keys())
        if at is None or (had, local) != (at, remote):
            take_over(fetch, clone, FETCHED_MAIN, at)
        main = clone.rev(FETCHED_MAIN)
        assert main is not None
        return main

    def _append(
        self,
        number: int,
        make: Callable[[LoggedEvent, str], PullEvent | None],
        proof: SignedApproval | None = None,
        attestation: bytes | None = None,
    ) -> None:
        """Add the event that ``make`` wants after the last one (None: nothing), again when someone else was faster.

        ``make`` sees the forge as it was just read; what is pushed is not read again here.
        """
        for _ in range(ATTEMPTS):
            self._refresh()
            tip = self._tip(number)
            event = make(self._reader.log(tip)[-1], self._reader.main())
            if event is None:
                return
            self._bring(self.clone)
            try:
                self._push(self._commit(event, proof, (tip,), attestation), f"{PULLS}{number}", tip)
            except InfrastructureFailure as error:
                if error.code != "ref-moved":
                    raise
                continue
            return
        raise too_busy()

    def _commit(
        self,
        event: PullEvent,
        proof: SignedApproval | None,
        parents: tuple[str, ...],
        attestation: bytes | None = None,
    ) -> str:
        author = Ident(event.actor, f"{event.actor}@modelsmith.invalid", event.at)
        if attestation is None:
            files = event_files(event, ssh.sign(canonical_json(event), self.identity.key, EVENT_NAMESPACE), proof)
        else:
            files = attested_files(event, attestation)
        return self.clone.commit_files(None, files, f"{event.kind} {event.pull}\n", author, parents)

    def _root(self) -> str:
        """The empty commit under every log; the same in every repository."""
        return self.clone.commit_tree(self.clone.text("mktree"), [], "modelsmith pull request\n", _ROOT)

    def _at(self, ref: str) -> str | None:
        """Where a ref of the forge is now."""
        if self._mirror:
            return remote_refs(self.clone, self._mirror.url, ref, env=self._mirror.secrets()).get(ref)
        return local_refs(self._reader.git, ref).get(ref)

    def _push(self, commit: str, ref: str, expected: str | None, log: str | None = None) -> None:
        """Move one ref of the forge by compare-and-swap.

        ``log`` is the ref of the log whose proposal goes into main, so that nothing of it is sent again.

        Raises:
            InfrastructureFailure: ``ref-moved`` when it is not at ``expected`` (None: it must not exist).
            IntegrityFailure: ``mistaken-ref``.
            ModelsmithError: what the forge's hook refused, as the hook said it.
        """
        lease = f"--force-with-lease={ref}:{expected or ''}"
        where = self._mirror.url if self._mirror else str(self.bare.resolve())
        env = self._mirror.secrets() if self._mirror else {}
        logs = [name for name in (ref, log) if name and name.startswith(PULLS)]
        told = () if self._mirror else (announcing_only(*logs),)
        try:
            self.clone.run(*_PUSH, *told, lease, where, f"{commit}:{ref}", env=env)
        except InfrastructureFailure as error:
            output = str(error.details.get("stderr", ""))
            refusal = self._refusal(output)
            if refusal:
                raise refusal from None
            current = self._at(ref)
            if current == commit:
                return
            if any(words in output for words in _MISTAKEN):
                self._require_one_meaning(ref, where, env)
            if current != expected:
                raise InfrastructureFailure(
                    "ref-moved",
                    f"{ref} was moved by someone else.",
                    "Run the command again; it will start from the new state.",
                    ref=ref,
                    expected=expected,
                    found=current,
                ) from None
            raise

    def _require_one_meaning(self, ref: str, where: str, env: Mapping[str, str]) -> None:
        """Git looks a name up in several places, also where it is whole: it pushes to none of several.

        Raises:
            IntegrityFailure: ``mistaken-ref``.
        """
        others = remote_refs(self.clone, where, *(f"{place}{ref}" for place in _ALSO), env=env)
        for other in others:
            raise IntegrityFailure(
                "mistaken-ref",
                f"Somebody has pushed {other}, so that no push to {ref} has one meaning for git.",
                f"Nothing of the toolkit has such a name. Whoever may write there removes it: git push URL :{other}",
                ref=ref,
                other=other,
            )


def now() -> datetime:
    """The present, as events say it: to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def unknown_pull(number: int) -> InvalidInput:
    """The error for a number that no pull request has."""
    return InvalidInput(
        "unknown-pull", f"There is no pull request {number}.", "List them with `{next}`.", number=number
    ).then(step("pr list", {}))


def not_open(number: int, status: str) -> InvalidInput:
    """The error for what is said of a pull request that has ended."""
    return InvalidInput(
        "not-open", f"Pull request {number} is {status}.", "Open a new one if the change is still wanted.", pull=number
    )


def too_busy() -> InfrastructureFailure:
    """The failure when others were faster again and again."""
    return InfrastructureFailure(
        "ref-moved", "Others kept writing to the same pull request.", "Run the command again in a moment."
    )
