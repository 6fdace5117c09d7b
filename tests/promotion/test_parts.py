"""Main in parts: wherever it is cut, all parts together say what one replay says, of honest mains and of others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from in_parts import after_receipts, outcome, replayed_in_parts, same_in_parts
from promotion.replays import PEOPLE, PETRA, merged_in_between, receipts_of, with_key_of_petra

from modelsmith.promotion.parts import clean_cuts, counted, cut
from modelsmith.promotion.verify import replay, replay_part
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.errors import IntegrityFailure
from modelsmith.schema.progress import silent
from modelsmith.signing.ssh import public_key

from .conftest import AT, WHO, candidate

NOTE, MORE = {"docs/note.md": b"x"}, {"docs/more.md": b"x"}


def outcome_of(repository, changed, places=None):
    return same_in_parts(repository.git.path, repository.tip, changed.tip, places)


def refused_at(repository, changed, commit, words, places=None):
    """One replay, and those in parts, refuse main at a commit."""
    _, error = outcome_of(repository, changed, places)
    assert words in error["message"]
    assert error["details"]["commit"] == commit
    return error


def parent(changed, back=1):
    """A step of main before the last."""
    return changed.git.text("rev-parse", f"{changed.tip}~{back}")


def alone(repository, changed, at):
    """What the part of main that begins at an index holds when nobody judges what lies before it."""
    with ObjectReader(repository.git.path) as git:
        steps = steps_of(git, repository, changed)
        return replay_part(git, cut(repository.tip, steps, [at])[1], silent, datetime.now(UTC))


def steps_of(git, repository, changed):
    log = git.first_parent_log(changed.tip)
    return log[[commit.id for commit in log].index(repository.tip) + 1 :]


@pytest.fixture(scope="module")
def honest(repository):
    """Promotions, a change of keys and merges that wait for their receipts: everything that a replay carries moves."""
    grown = repository.merge(candidate(repository, 1), number=1)
    grown = grown.merge(with_key_of_petra(grown, "petra-new"), [PETRA], number=2)
    grown = grown.merge(NOTE, [("petra", "petra-new")], number=3)
    late = grown.merge(candidate(grown, 2), number=4)
    between = replace(late, tip=parent(late)).merge(MORE, [("petra", "petra-new")], number=5)
    grown = between.commit(receipts_of(late))
    return grown.merge(candidate(grown, 3), number=6)


def test_an_honest_main_holds_wherever_it_is_cut(repository, honest):
    counts, *_ = outcome_of(repository, honest)
    assert counts == (6, 3, 3)
    outcome_of(repository, honest, [[1], [5], [8], [9], [11], list(range(1, 12))])


def test_where_a_line_is_cut_every_step_has_its_receipts(repository, honest):
    with ObjectReader(repository.git.path) as git:
        steps = steps_of(git, repository, honest)
        assert clean_cuts(git, steps, 2) == [6]
        assert clean_cuts(git, steps, 12) == [2, 4, 6, 10], "8 and 9 lie between a merge and its receipts"
        assert clean_cuts(git, steps, 1) == []
        parts = cut(repository.tip, steps, clean_cuts(git, steps, 12))
        assert all(counted(git, part, silent, datetime.now(UTC)) for part in parts)
        open_merge = cut(repository.tip, steps, [8])
        assert counted(git, open_merge[0], silent, datetime.now(UTC)) is None


def test_a_change_that_nobody_receipted_gives_the_next_part_no_rules(repository):
    """The files at the cut list Mallory, and what she approves afterwards would hold by them."""
    people = repository.main.tree.read(PEOPLE)
    petra, mallory = (public_key(repository.people / f"{name}.pub").encode() for name in ("petra", "mallory"))
    first = repository.merge(candidate(repository, 1), number=1)
    smuggled = first.commit({PEOPLE: people.replace(petra, mallory)})
    changed = smuggled.merge(NOTE, [("petra", "mallory")], number=2)
    assert alone(repository, changed, 3).changes == 1
    refused_at(repository, changed, smuggled.tip, "without receipts", [[3], [2, 3], [2], [1, 3]])


def test_a_closed_gate_before_the_cut_gives_the_next_part_no_rules(repository):
    """The same with receipts, which nobody who may approve it has given."""
    smuggled = repository.merge(with_key_of_petra(repository, "mallory"), [("maya", "maya")], number=1, smuggled=True)
    changed = smuggled.merge(NOTE, [("petra", "mallory")], number=2)
    assert alone(repository, changed, 2).changes == 1
    refused_at(repository, changed, parent(smuggled), "@platform is missing")


def test_a_promotion_that_no_gate_has_seen_founds_no_history(repository):
    """A candidate that no merge brought is in the files at the cut, and its specialist would go on from it."""
    stray = repository.commit(candidate(repository, 1)).commit({"notes.md": b"x"})
    changed = stray.merge(NOTE, [PETRA], number=1)
    assert len(alone(repository, changed, 2).main.histories.by_specialist) == 1
    refused_at(repository, changed, parent(stray), "has no receipt", [[1], [2], [1, 2], [2, 3]])


def test_a_number_that_is_used_in_two_parts_is_found(repository):
    once = repository.merge(candidate(repository, 1), number=1)
    twice = once.merge(NOTE, [PETRA], number=1)
    refused_at(repository, twice, parent(twice), "uses pull request 1 a second time")


def test_a_number_whose_receipts_were_taken_away_stays_spent(repository):
    """The files at the cut do not say any more that it was used; but the gate lets nobody take receipts away."""
    once = repository.merge(NOTE, [PETRA], number=1)
    removals = dict.fromkeys(receipts_of(once))
    without_receipts = once.merge(removals, [PETRA], number=2, smuggled=True)
    changed = without_receipts.merge(MORE, [PETRA], number=1)
    assert alone(repository, changed, 4).changes == 1
    refused_at(repository, changed, parent(without_receipts), "does not pass its gate", [[2], [4], [2, 4]])


def test_what_is_signed_may_name_a_main_of_an_earlier_part_and_no_other(repository):
    once = repository.merge(candidate(repository, 1), number=1)
    twice = once.merge(NOTE, [PETRA], number=2)
    other = repository.merge(candidate(repository, 2), number=1)
    for early in (repository.tip, once.tip, parent(once)):
        assert outcome_of(repository, twice.merge(MORE, [PETRA], number=3, opened_on=early, approved_on=early))[0] == (
            3,
            1,
            2,
        )
    for foreign in ({"opened_on": other.tip}, {"approved_on": other.tip}):
        changed = twice.merge(MORE, [PETRA], number=3, **foreign)
        refused_at(repository, changed, parent(changed), "is not on this one")


def test_receipts_that_come_in_another_part_are_those_of_their_merge(repository):
    two, missing = merged_in_between(repository)
    whole = two.commit(missing).merge(MORE, [PETRA], number=3)
    counts, *_ = outcome_of(repository, whole, [[1], [2], [3], [4], [1, 2, 3, 4, 5]])
    assert counts == (3, 1, 2)
    never = two.merge(MORE, [PETRA], number=3)
    refused_at(repository, never, parent(two, 2), "", [[1], [3], [4]])


def test_receipts_that_were_moved_behind_the_cut_speak_of_no_other_step(repository):
    """A commit that adds receipts a second time, or of a merge that has its own, is a change that nobody merged."""
    once = repository.merge(candidate(repository, 1), number=1)
    note = once.merge(NOTE, [PETRA], number=2)
    again = {path.replace("iter-001", "iter-009"): data for path, data in receipts_of(once).items()}
    changed = note.commit(again)
    refused_at(repository, changed, changed.tip, "without receipts")
    changed = changed.merge(MORE, [PETRA], number=3)
    refused_at(repository, changed, parent(changed, 2), "receipts", [[2], [4], [5], [6]])


def test_a_step_that_was_left_out_at_the_cut_is_missed(repository):
    """What came after it was opened and approved on a main that had it."""
    first = repository.merge(candidate(repository, 1), number=1)
    left_out = first.merge(NOTE, [PETRA], number=2)
    changed = first.merge(MORE, [PETRA], number=3, opened_on=left_out.tip, approved_on=left_out.tip)
    refused_at(repository, changed, parent(changed), "is not on this one")


def test_time_does_not_go_back_from_one_part_to_the_next(repository):
    late = repository.merge(candidate(repository, 1), number=1, at=AT + timedelta(days=2))
    changed = late.merge(NOTE, [PETRA], number=2, at=AT)
    refused_at(repository, changed, parent(changed), "comes after a merge at")


def test_of_several_parts_that_do_not_hold_the_earliest_has_the_word(repository):
    first = repository.merge(candidate(repository, 1), number=1).commit({"notes.md": b"quick fix"})
    direct = first.tip
    changed = first.merge(NOTE, [PETRA], number=2).commit({"notes.md": b"another"}).merge(MORE, [PETRA], number=3)
    refused_at(repository, changed, direct, "without receipts", [[1], [3], [5], [2, 3, 5, 6], [5, 6]])


def test_a_part_that_ends_otherwise_than_its_files_say_does_not_count(repository, honest, monkeypatch):
    """Whatever the reason why what is carried and what is read should ever differ, one replay has the word."""
    with ObjectReader(repository.git.path) as git:
        steps = steps_of(git, repository, honest)
        clean = after_receipts(git, steps)
        whole = outcome(lambda: replay(git, repository.tip, steps, silent, datetime.now(UTC)))
        for field in ("latest", "spent", "main"):
            monkeypatch.setattr("modelsmith.promotion.parts.replay_part", forgetting(field))
            (part, _) = cut(repository.tip, steps, [6])
            assert counted(git, part, silent, datetime.now(UTC)) is None, field
            monkeypatch.undo()
        assert outcome(lambda: replayed_in_parts(git, repository.tip, steps, clean, datetime.now(UTC))) == whole


def forgetting(field):
    """A replay whose end has something else in a field than main's files."""

    def replayed(git, part, notify, now):
        replay_result = replay_part(git, part, notify, now)
        others = {
            "latest": datetime(2020, 1, 1, tzinfo=UTC),
            "spent": {99},
            "main": replace(replay_result.main, trusted=()),
        }
        setattr(replay_result, field, others[field])
        return replay_result

    return replayed


def test_a_part_begins_with_what_its_files_say(repository):
    """What the files at the cut hold and cannot be read is refused by the replay, not by the cut."""
    broken = repository.commit({PEOPLE: b"people: 7\n"})
    changed = replace(broken, tip=broken.git.commit_files(broken.tip, NOTE, "x\n", WHO))
    with ObjectReader(repository.git.path) as git:
        steps = steps_of(git, repository, changed)
        with pytest.raises(IntegrityFailure) as single:
            replay(git, repository.tip, steps, silent, datetime.now(UTC))
        with pytest.raises(IntegrityFailure) as many:
            replayed_in_parts(git, repository.tip, steps, [1], datetime.now(UTC))
    assert many.value.envelope() == single.value.envelope()
    assert single.value.details["commit"] == broken.tip
