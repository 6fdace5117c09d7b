"""Names: whoever could pass for somebody else is refused, and nobody for being called what they are called."""

import pytest

from modelsmith.governance.names import find_twin, fold_name, name_problems
from modelsmith.repository.listing import FlatListing
from modelsmith.schema.governance import Harness, People, Person


def problems_of(*people, harness=()):
    return list(name_problems(People(roles={}, people=people, harness=harness)))


def named(*names):
    return problems_of(*(Person(id=f"p{number}", name=name, roles=()) for number, name in enumerate(names)))


def test_people_keep_their_names():
    assert (
        named(
            "Łukasz Żak", "Zoë", "Zoe", "山田 太郎", "山田\u3000花子", "O'Brien", "João-Maria", "Αλέξης", "Иван Петров",
            "한지민", "नीरज", "Søren Müller", "Nguyễn Văn A", "مریم\u200cنژاد", "田中 Taro", "Dana (EU) 2",  # noqa: RUF001
        )
        == []
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("Maya", "maya", "are the same"),
        ("Maya", "\uff2daya", "are the same"),
        ("Zo\u00eb", "Zoe\u0308", "are the same"),
        ("Maya  Torres", "Maya Torres", "are the same"),
        ("ab", "a\u200db", "are the same"),
        ("Maya", "\u041c\u0430\u0443\u0430", "U+041C CYRILLIC CAPITAL LETTER EM"),
        ("TOM", "\u03a4\u039f\u039c", "U+03A4 GREEK CAPITAL LETTER TAU"),
    ],
)
def test_two_people_whose_names_read_the_same_are_refused(one, other, why):
    (sentence,) = named(one, other)
    assert why in sentence
    assert "p0" in sentence
    assert "p1" in sentence


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rnaya", "maya"),
        ("0li", "Oli"),
        ("o1i", "oli"),
        ("Ilse", "llse"),
        ("vvanda", "wanda"),
        ("a1", "al"),
        ("b0b", "bob"),
    ],
)
def test_letters_and_digits_that_nobody_tells_apart_are_refused(one, other):
    (sentence,) = named(one, other)
    assert "look alike" in sentence
    assert f"'{one}'" in sentence


def test_names_that_can_be_told_apart_are_welcome_together():
    assert named("Ian", "Lan", "Ali", "All", "Ail", "Oli", "Olli", "Arno", "Ama", "Wanda", "Vanda", "Tim", "Tom") == []
    assert named("user1", "user2", "agent-0", "agent-1") == []


def test_a_role_has_no_double_and_a_person_is_not_called_like_a_role():
    def problems(roles, *people):
        return list(name_problems(People(roles=dict.fromkeys(roles, ""), people=people)))

    assert problems(["platform", "domain-lead"], Person(id="p", name="Platform", roles=())) == []
    (double,) = problems(["platform", "platforrn"])
    assert double.startswith("The role 'platform' and the role 'platforrn' look alike")
    (person,) = problems(["platform"], Person(id="p1atform", name="P", roles=()))
    assert "the role 'platform'" in person
    (login,) = problems(["oncall"], Person(id="p", name="P", roles=(), logins={"github": "0ncall"}))
    assert "login at github '0ncall'" in login


@pytest.mark.parametrize(
    ("name", "character"),
    [
        ("M\u0430ya", "U+0430 CYRILLIC SMALL LETTER A"),
        ("\u0391lice", "U+0391 GREEK CAPITAL LETTER ALPHA"),
        ("\u0418v\u0430n", "U+0418 CYRILLIC CAPITAL LETTER I, U+0430 CYRILLIC SMALL LETTER A"),
        ("may\u202ea", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("may\u200ba", "U+200B ZERO WIDTH SPACE"),
        ("\u3164", "U+3164 HANGUL FILLER"),
        ("carol\U00016fe4", "U+16FE4 KHITAN SMALL SCRIPT FILLER"),
        ("carol\U0001d159", "U+1D159 MUSICAL SYMBOL NULL NOTEHEAD"),
        ("a\nb", "U+000A"),
    ],
)
def test_a_name_that_deceives_is_refused_and_the_characters_named(name, character):
    assert any(character in sentence for sentence in named(name))


def test_a_name_may_not_be_somebody_elses_id_or_login_either():
    maya = Person(id="maya", name="Maya", roles=(), logins={"github": "maya-t"})
    assert problems_of(maya) == [], "one person may use one name everywhere"
    for other in (
        Person(id="mallory", name="MAYA", roles=()),
        Person(id="mallory", name="M", roles=(), logins={"gitlab": "maya"}),
        Person(id="mallory", name="m\u0430ya-t", roles=()),
        Person(id="Maya", name="M", roles=()),
    ):
        assert problems_of(maya, other)
    assert problems_of(maya, harness=(Harness(id="bot", logins={"github": "Maya-T"}),))


def names_in(paths):
    return FlatListing(dict.fromkeys(paths, ("100644", "0" * 40))).names


def test_what_a_disk_takes_for_one_name_is_found_beside_a_new_path():
    paths = sorted(["docs/A.md", "docs/A-b", "docs/A/x", "docs/a.md", "evals/x", "docs/\u00e9", "docs/e\u0301"])
    assert find_twin(names_in(paths), ["docs/a.md"]) == ("docs/A.md", "docs/a.md")
    assert find_twin(names_in(paths), ["docs/A/x"]) is None
    assert find_twin(names_in([*paths, "Evals/y"]), ["Evals/y"]) == ("Evals", "evals")
    assert find_twin(names_in(paths), ["docs/e\u0301"]) == ("docs/e\u0301", "docs/\u00e9")
    assert find_twin(names_in(paths), ["evals/x"]) is None, "old twins are not this change's"
    assert find_twin(names_in(["a", "a-b", "a.c", "b/a", "b/a-b/c", "b/a/c", "b/a0"]), ["b/a0", "a.c"]) is None


def test_folding_is_what_file_systems_do():
    assert fold_name("README.md") == fold_name("readme.MD")
    assert fold_name("stra\u00dfe") == fold_name("STRASSE")
    assert fold_name("a") != fold_name("b")
