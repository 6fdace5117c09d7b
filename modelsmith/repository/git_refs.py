"""Names and settings of one repository: what a ref is moved to, what HEAD means, what its own configuration says."""

from __future__ import annotations

from modelsmith.repository.git_process import GitProcess, plain
from modelsmith.repository.git_settings import read_settings
from modelsmith.repository.invocation import git_failed
from modelsmith.schema.errors import InfrastructureFailure


class GitRefs(GitProcess):
    """Refs and settings of one repository; `update_ref` is the only write that others can see."""

    def init(self, *options: str) -> None:
        """Make the folder a repository whose branch is main; no template of the user's is copied into it."""
        self.run("init", "--quiet", "--template=", "--initial-branch=main", *options)

    def update_ref(self, ref: str, new: str, old: str | None) -> None:
        """Move a ref from ``old`` to ``new`` in one step; ``old`` None: the ref must not exist yet.

        Raises:
            InfrastructureFailure: ``ref-moved`` when the ref is not at ``old``; it is left as it was.
        """
        expected = old or "0" * len(new)
        args = ("update-ref", "--stdin", "-z")
        process = self.attempt(args, f"update {ref}\0{new}\0{expected}\0".encode())
        if not process.returncode:
            return
        now = self.attempt(("rev-parse", "--verify", "--quiet", plain(ref))).stdout.decode().strip() or None
        if now != old:
            raise InfrastructureFailure(
                "ref-moved",
                f"{ref} was moved by someone else: it is at {now}, not at {old}",
                "Run the command again; it will start from the new state.",
                ref=ref,
                expected=old,
                found=now,
            )
        raise git_failed(args, process)

    def setting(self, name: str) -> str | None:
        """A setting of this repository's own configuration, which may be empty; None when it has none of that name."""
        values = self.settings(name)
        return values[-1] if values else None

    def settings(self, name: str) -> tuple[str, ...]:
        """Every value of a setting that may be given several times, in the order of the file.

        Raises:
            InfrastructureFailure: ``git-failed``, or why git cannot read the configuration; not for one without it.
        """
        return tuple(value for key, value in read_settings(self) if key == name)

    def branch(self) -> str | None:
        """Full name of the branch that is checked out, born or not; None when HEAD is detached."""
        return self.symbolic_ref("HEAD")

    def symbolic_ref(self, name: str) -> str | None:
        """The ref that a symbolic ref leads to; None when it is not a symbolic ref."""
        args = ("symbolic-ref", "--quiet", plain(name))
        process = self.attempt(args)
        if process.returncode > 1:
            raise git_failed(args, process)
        return process.stdout.decode("utf-8", "replace").strip() or None
