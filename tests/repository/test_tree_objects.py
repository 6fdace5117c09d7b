"""A folder that is read like a known one: the same answer as when it is read from its beginning, or none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelsmith.repository.tree_objects import folder_of, parse_like, parse_tree
from modelsmith.schema.errors import InvalidInput

ENTRIES = st.tuples(
    st.sampled_from([b"100644", b"100755", b"120000", b"40000", b"160000", b"040000", b"100600"]),
    st.text("ab-.é~", min_size=1, max_size=3).map(str.encode) | st.sampled_from([b".git", b"a/b", b"\xff"]),
    st.sampled_from([b"\0" * 20, b"a" * 20, b"100644 a\0" + b"b" * 11]) | st.binary(min_size=20, max_size=20),
)


def place(entry):
    return entry[1] + b"/" if entry[0] == b"40000" else entry[1]


def tree_bytes(entries):
    return b"".join(mode + b" " + name + b"\0" + oid for mode, name, oid in entries)


def plainly(data):
    try:
        return parse_tree(data, 20)
    except InvalidInput:
        return None


@given(
    st.lists(ENTRIES, min_size=1, max_size=12, unique_by=lambda entry: entry[1]),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1), st.lists(ENTRIES, max_size=2)), max_size=2),
    st.booleans(),
    st.tuples(st.integers(0, 400), st.integers(0, 2), st.binary(max_size=2)) | st.none(),
)
def test_a_folder_that_is_nearly_known_reads_as_one_that_is_not(before, edits, ordered, damage):
    """Entries replaced, added and removed, in git's order or not, and bytes of it that were changed."""
    old = tree_bytes(sorted(before, key=place))
    if not (sound := plainly(old)):
        return
    listing = folder_of(old, 20, sound)
    assert listing.listed() == sound
    assert listing.ends[-1] == len(old)
    after = sorted(before, key=place)
    for at, removed, new in edits:
        after[at : at + removed] = new
    data = tree_bytes(sorted(after, key=place) if ordered else after)
    if damage:
        at, removed, new = damage
        data = data[:at] + new + data[at + removed :]
    parsed = parse_like(data, 20, listing)
    if parsed is not None:
        assert list(parsed.listed().items()) == list((plainly(data) or {}).items())
        assert parsed == folder_of(data, 20, plainly(data))


def test_one_name_among_many_is_read_alone():
    """It is not that nothing is ever found: a change, an addition and a removal are."""
    many = [(b"40000", b"iter-%03d" % number, bytes([number]) * 20) for number in range(200)]
    listing = folder_of(tree_bytes(many), 20, parse_tree(tree_bytes(many), 20))
    for at in (0, 100, 199):
        for new in (
            [],
            [(b"40000", b"iter-%03d" % at, b"x" * 20)],
            [many[at], (b"40000", b"iter-%03da" % at, b"y" * 20)],
        ):
            data = tree_bytes([*many[:at], *new, *many[at + 1 :]])
            assert parse_like(data, 20, listing) == folder_of(data, 20, parse_tree(data, 20))
