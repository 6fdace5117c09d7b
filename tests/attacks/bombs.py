"""Proposals made by hand: objects that keep readers busy, and openings that no client would write."""

from __future__ import annotations

from datetime import UTC, datetime

from attacker import NOBODY, World

from modelsmith.forges.events import event_files
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.promotion import EVENT_NAMESPACE
from modelsmith.schema.pull import PullEvent
from modelsmith.signing import ssh


def blob_of(world: World) -> str:
    return world.git.text("hash-object", "-w", "--stdin", input=b"x")


def empty(world: World) -> str:
    return world.git.text("mktree")


def small(world: World) -> str:
    """A folder with one file, which shows nothing of what stood there."""
    return world.git.text("mktree", input=f"100644 blob {blob_of(world)}\tx\n".encode())


def with_folder(world: World, tree: str) -> str:
    """Main's root with one more folder."""
    base = world.git.text("ls-tree", world.main())
    return world.git.text("mktree", input=f"{base}\n040000 tree {tree}\tdocs-more\n".encode())


def billion_files(world: World) -> str:
    """Thirty objects that list 2^30 files."""
    tree = world.git.text("mktree", input=f"100644 blob {blob_of(world)}\tx\n".encode())
    for _ in range(30):
        tree = world.git.text("mktree", input=f"040000 tree {tree}\ta\n040000 tree {tree}\tb\n".encode())
    return world.git.commit_tree(with_folder(world, tree), [world.main()], "A bomb\n", NOBODY)


def deep_folders(world: World) -> str:
    """Each holds the next; the whole list of names was walked again for each of them."""
    tree = world.git.text("mktree", input=f"100644 blob {blob_of(world)}\tf\n".encode())
    for _ in range(300):
        tree = world.git.text("mktree", input=f"040000 tree {tree}\td\n".encode())
    return world.git.commit_tree(with_folder(world, tree), [world.main()], "Deep\n", NOBODY)


def deep_folders_that_go(world: World) -> str:
    """The last commit does not hold them any more."""
    return world.git.commit_tree(with_folder(world, small(world)), [deep_folders(world)], "Not deep\n", NOBODY)


def wide_folders(world: World) -> str:
    """Each names the next thousands of times, and the last is empty: there is nothing to be shown."""
    tree = empty(world)
    for _ in range(4):
        lines = "".join(f"040000 tree {tree}\t{number:05}\n" for number in range(30_000))
        tree = world.git.text("mktree", input=lines.encode())
    return world.git.commit_tree(with_folder(world, tree), [world.main()], "Wide\n", NOBODY)


def many_parents(world: World) -> str:
    """Each entry of a wide folder is asked for in each parent: thousands of names, hundreds of parents."""
    blob, parents = blob_of(world), []
    names = "".join(f"100644 blob {blob}\t{number:05}\n" for number in range(10_000))
    for number in range(400):
        single_file = world.git.text("mktree", input=f"100644 blob {blob}\tf{number}\n".encode())
        parents.append(world.git.commit_tree(with_folder(world, single_file), [world.main()], "One\n", NOBODY))
    tree = world.git.text("mktree", input=names.encode())
    head = world.git.commit_tree(with_folder(world, tree), parents, "All\n", NOBODY)
    return world.git.commit_tree(with_folder(world, small(world)), [head], "None\n", NOBODY)


def opened_by_hand(world: World, number: int, main: str, head: str, change: str, other: int, body: str = "") -> str:
    """The commit that opens a pull request of petra's, beside another one, without asking what her client asks."""
    event = PullEvent(
        repository=world.governed().policy.repository, pull=number, kind="opened", actor="petra", head=head, base=main,
        at=datetime.now(UTC).replace(microsecond=0), change=change, previous=None,
        branch="b", title="t", requester="petra", body=body,
    )  # fmt: skip
    signature = ssh.sign(canonical_json(event), world.key("petra"), EVENT_NAMESPACE)
    root = world.git.text("rev-list", "--max-parents=0", world.pull_tip(other), "--first-parent").split()[-1]
    world.git.run("fetch", "--quiet", "--no-tags", str(world.forge), world.pull_tip(other))
    return world.git.commit_files(None, event_files(event, signature, None), f"opened {number}\n", NOBODY, (root, head))
