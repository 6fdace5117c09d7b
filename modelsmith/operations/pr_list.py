"""``modelsmith pr list``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import override

from modelsmith.operations.contract import Cli, Request, Result
from modelsmith.operations.pull_view import PullView, UnreadableView, unreadable_views, view
from modelsmith.promotion.governed_state import read_governed_state
from modelsmith.promotion.harness import open_forge
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import Exit


class PrListRequest(Request):
    """Open pull requests with what each waits for; with --all, merged and closed ones too."""

    everything: Annotated[bool, Field(description="Merged and closed ones too."), Cli(option="--all")] = False


class PrListResult(Result):
    """Pull requests, newest first."""

    pulls: tuple[PullView, ...]
    unreadable: tuple[UnreadableView, ...] = ()
    """Those whose log was tampered with, or that nobody has signed for; they hide no other."""

    @override
    def exit_code(self) -> Exit:
        return Exit.INTEGRITY if any(pull.broken for pull in self.unreadable) else Exit.DONE


def run(workspace: Workspace, request: PrListRequest) -> PrListResult:
    """Read them from the forge; nothing is changed."""
    forge = open_forge(workspace)
    main = read_governed_state(workspace.git, forge.fetch_into(workspace.git))
    pulls, unreadable = forge.survey(None if request.everything else "open")
    return PrListResult(
        pulls=tuple(view(main, pull) for pull in reversed(pulls)),
        unreadable=unreadable_views(unreadable),
    )
