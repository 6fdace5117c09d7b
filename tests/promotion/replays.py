"""Mains for replay: with another person's key, receipts that come late, a merge in between."""

from __future__ import annotations

from dataclasses import replace

from modelsmith.signing.ssh import public_key

from .conftest import AT, candidate

PEOPLE = ".github/governance/people.yaml"
PETRA = ("petra", "petra")


def with_key_of_petra(repository, name):
    """people.yaml with another key for Petra."""
    old, new = (public_key(repository.people / f"{key}.pub") for key in ("petra", name))
    return {PEOPLE: repository.main.tree.read(PEOPLE).replace(old.encode(), new.encode())}


def receipts_of(repository):
    """Receipts that the last commit added."""
    git = repository.git
    return {p.path: git.read_blob(p.new_blob) for p in git.change(f"{repository.tip}^", repository.tip).paths}


def merged_in_between(repository, late=AT):
    """Two merges, the second before the receipts of the first came; and those receipts."""
    world = repository.merge(candidate(repository, 1), number=1, at=late)
    first = world.git.text("rev-parse", f"{world.tip}^")
    two = replace(world, tip=first).merge({"docs/note.md": b"x"}, [PETRA], number=2)
    return two, receipts_of(world)
