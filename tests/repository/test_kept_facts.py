"""Facts that are kept outside of clones: whoever cannot write beside the keys cannot make one."""

from __future__ import annotations

import pytest

from modelsmith.repository.kept_facts import KeptFacts


def save_facts(home, facts, kind="kind", place="here"):
    kept_facts = KeptFacts(home, kind, place)
    for key, fact in facts.items():
        kept_facts.add(key, fact)
    kept_facts.save()


def file_of(home):
    (found,) = (home / "kept").glob("*.facts")
    return found


def test_what_was_kept_is_there_the_next_time(tmp_path):
    save_facts(tmp_path, {"a": [1, "two", None], "b": False})
    again = KeptFacts(tmp_path, "kind", "here")
    assert [again.get("a"), again.get("b"), again.get("c")] == [[1, "two", None], False, None]


def test_what_nobody_asks_for_is_forgotten(tmp_path):
    save_facts(tmp_path, {"a": 1, "b": 2})
    again = KeptFacts(tmp_path, "kind", "here")
    again.get("a")
    again.add("c", 3)
    again.save()
    assert [KeptFacts(tmp_path, "kind", "here").get(key) for key in "abc"] == [1, None, 3]


@pytest.mark.parametrize(("kind", "place"), [("other", "here"), ("kind", "there")])
def test_facts_of_one_kind_and_repository_are_none_of_another(tmp_path, kind, place):
    save_facts(tmp_path, {"a": 1})
    save_facts(tmp_path / "b", {"z": 1}, kind, place)
    (tmp_path / "b" / "kept" / "secret").write_bytes((tmp_path / "kept" / "secret").read_bytes())
    file_of(tmp_path / "b").write_bytes(file_of(tmp_path).read_bytes())
    assert KeptFacts(tmp_path / "b", kind, place).get("a") is None


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.write_bytes(file.read_bytes().replace(b"\t1", b"\t2")),
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes().partition(b"\n")[2]),
        lambda file: file.write_bytes(b""),
        lambda file: (file.parent / "secret").write_bytes(b"\0" * 32),
        lambda file: (file.parent / "secret").write_bytes(b""),
        lambda file: (file.parent / "secret").unlink(),
    ],
)
def test_a_file_that_was_changed_or_is_not_ours_is_none(tmp_path, harm):
    save_facts(tmp_path, {"a": 1})
    harm(file_of(tmp_path))
    assert KeptFacts(tmp_path, "kind", "here").get("a") is None


def test_without_a_folder_to_write_to_nothing_is_kept(tmp_path):
    (tmp_path / "kept").write_text("a file")
    save_facts(tmp_path, {"a": 1})
    save_facts(None, {"a": 1})
    assert KeptFacts(tmp_path, "kind", "here").get("a") is None


def test_the_secret_is_its_owner_s_alone(tmp_path):
    save_facts(tmp_path, {"a": 1})
    assert (tmp_path / "kept" / "secret").stat().st_mode & 0o077 == 0


def blocks(home):
    """A file of three blocks: of a, of b and of c."""
    for key in "abc":
        here = KeptFacts(home, "kind", "here")
        for known in "abc":
            here.get(known)
        here.add(key, key * 3)
        here.save()
    file = file_of(home)
    parts, data = [], file.read_bytes()
    while data:
        length = int(data.partition(b"\n")[0].partition(b" ")[2])
        end = data.index(b"\n") + 1 + length
        parts, data = [*parts, data[:end]], data[end:]
    return file, parts


def found(home):
    again = KeptFacts(home, "kind", "here")
    return {key: again.get(key) for key in "abc" if again.get(key) is not None}


def test_what_is_new_is_put_at_the_end(tmp_path):
    _, parts = blocks(tmp_path)
    assert len(parts) == 3
    assert found(tmp_path) == {"a": "aaa", "b": "bbb", "c": "ccc"}


@pytest.mark.parametrize(
    ("harm", "left"),
    [
        (lambda a, b, c: a + b.replace(b"bbb", b"xxx") + c, "a"),
        (lambda a, b, c: a + b[:-2], "a"),
        (lambda a, b, c: a + b + b"no block\n" + c, "ab"),
        (lambda a, b, c: a + b.replace(b" ", b" -", 1) + c, "a"),
        (lambda a, b, c: a + b.replace(b" ", b" 9", 1) + c, "a"),
        (lambda a, b, c: c + a, "ac"),
        (lambda a, b, c: b + b, "b"),
        (lambda a, b, c: a.partition(b" ")[0] + b"\n" + a.partition(b"\n")[2], ""),
    ],
)
def test_of_blocks_only_what_holds_is_read_and_the_next_save_mends_it(tmp_path, harm, left):
    """Torn, changed, twice, in another order, or as an older toolkit wrote them: nothing false is ever read."""
    file, parts = blocks(tmp_path)
    file.write_bytes(harm(*parts))
    assert found(tmp_path) == {key: key * 3 for key in left}
    here = KeptFacts(tmp_path, "kind", "here")
    missing = {key for key in "abc" if here.get(key) is None}
    for key in missing or "d":
        here.add(key, key * 3)
    here.save()
    assert found(tmp_path) == {"a": "aaa", "b": "bbb", "c": "ccc"} | {key: key * 3 for key in left}


@pytest.mark.parametrize("other", [("other", "here"), ("kind", "there")])
def test_a_block_of_another_file_is_none_here(tmp_path, other):
    """Codes of one folder are made with one secret; each is for one kind and one repository."""
    file, parts = blocks(tmp_path)
    elsewhere = KeptFacts(tmp_path, *other)
    elsewhere.add("a", "false")
    elsewhere.save()
    (strange,) = (path for path in file.parent.glob("*.facts") if path != file)
    file.write_bytes(strange.read_bytes() + b"".join(parts))
    assert found(tmp_path) == {}
    file.write_bytes(b"".join(parts) + strange.read_bytes())
    assert found(tmp_path) == {"a": "aaa", "b": "bbb", "c": "ccc"}


def test_two_that_write_at_once_lose_nothing_that_stood(tmp_path):
    save_facts(tmp_path, {"a": 1})
    one, other = (KeptFacts(tmp_path, "kind", "here") for _ in range(2))
    for here, key in ((one, "b"), (other, "c")):
        here.get("a")
        here.add(key, 1)
    one.save()
    other.save()
    assert found(tmp_path) == {"a": 1, "b": 1, "c": 1}


def test_a_key_that_would_be_two_lines_is_not_kept(tmp_path):
    save_facts(tmp_path, {"a\nb\t2": 1, "c": 1})
    assert found(tmp_path) == {"c": 1}


def test_what_is_kept_beside_is_saved_and_forgotten_by_itself(tmp_path):
    first = KeptFacts(tmp_path, "kind", "here")
    first.beside("more").add("a", 1)
    first.add("b", 1)
    first.save()
    second = KeptFacts(tmp_path, "kind", "here")
    assert (second.get("a"), second.get("b"), second.beside("more").get("a")) == (None, 1, 1)
