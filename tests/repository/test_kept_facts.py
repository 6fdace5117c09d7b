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
    (file,) = (home / "kept").glob("*.json")
    return file


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
        lambda file: file.write_bytes(file.read_bytes().replace(b":1", b":2")),
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
