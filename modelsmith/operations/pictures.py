"""Writing a picture or a page where its asker wants it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from modelsmith.repository.paths import refuse_links
from modelsmith.repository.workspace import Workspace
from modelsmith.schema.errors import InfrastructureFailure, InvalidInput
from modelsmith.signing.files import write_atomically

Page = Annotated[Path | None, Field(description="Write the page there, a file that ends in .md.")]
Svg = Annotated[Path | None, Field(description="Write the picture there, a file that ends in .svg.")]


def write_picture(workspace: Workspace, path: Path, picture: str) -> str:
    """Write an SVG file, replacing one that is there; returns its path.

    Raises:
        InvalidInput: ``not-svg`` for another ending: nothing else is ever written over. ``link-in-the-way``.
        InfrastructureFailure: ``write-failed``.
    """
    if path.suffix != ".svg":
        raise InvalidInput(
            "not-svg", f"{path} does not end in .svg", "Give the picture a name like balance.svg.", path=str(path)
        )
    return _write(workspace, path, picture)


def write_page(workspace: Workspace, path: Path, page: str) -> str:
    """Write a Markdown file, replacing one that is there; returns its path.

    Raises:
        InvalidInput: ``not-markdown`` for another ending: nothing else is ever written over. ``link-in-the-way``.
        InfrastructureFailure: ``write-failed``.
    """
    if path.suffix != ".md":
        raise InvalidInput(
            "not-markdown", f"{path} does not end in .md", "Give the page a name like eval.md.", path=str(path)
        )
    return _write(workspace, path, page)


def _write(workspace: Workspace, path: Path, text: str) -> str:
    refuse_links(workspace.root, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise InfrastructureFailure(
            "write-failed",
            f"{path} cannot be written: {error.strerror}",
            "Choose another place, or make room.",
            path=str(path),
            reason=error.strerror,
        ) from None
    return str(path)
