from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from modelsmith.governance.people import (
    account_holder,
    claimed_actors,
    is_harness,
    listed_keys,
    people_problems,
    principals,
)
from modelsmith.schema.governance import Harness, People, Person, SshKey

KEY_A, KEY_B, KEY_C = (f"ssh-ed25519 AAAA{letter}" for letter in "ABC")
T = [datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 7)]

PEOPLE = People(
    roles={"platform": "tools", "oncall-sre": "rollback", "empty": "nobody"},
    people=(
        Person(
            id="maya",
            name="Maya Torres",
            roles=("platform", "oncall-sre"),
            logins={"github": "Maya-T"},
            keys=(SshKey(key=KEY_A),),
        ),
        Person(
            id="li",
            name="Li Wei",
            roles=("platform",),
            logins={"github": "liwei"},
            keys=(SshKey(key=KEY_B, valid_after=T[1], valid_before=T[3]),),
        ),
        Person(id="bot", name="Bot", roles=("platform",), logins={"github": "robot"}),
    ),
    harness=(Harness(id="Bot", logins={"github": "smith-bot"}, keys=(SshKey(key=KEY_C),)),),
)


def test_a_role_stands_for_everyone_who_has_it():
    assert principals("@platform", PEOPLE) == {"maya", "li"}
    assert principals("@acme/platform", PEOPLE) == {"maya", "li"}
    assert principals("@empty", PEOPLE) == frozenset()


def test_an_id_and_a_login_stand_for_one_person():
    assert principals("@maya", PEOPLE) == {"maya"}
    assert principals("@maya-t", PEOPLE) == {"maya"}
    assert principals("@LIWEI", PEOPLE) == {"li"}


def test_mail_addresses_unknown_names_and_harnesses_stand_for_nobody():
    for owner in ("maya@example.org", "maya", "@unknown", "@Bot", "@bot", "@robot", "@smith-bot", "@", "@acme/unknown"):
        assert principals(owner, PEOPLE) == frozenset()


def test_a_login_that_two_people_share_stands_for_nobody():
    twins = People(
        roles={},
        people=(
            Person(id="a", name="A", roles=(), logins={"github": "same"}),
            Person(id="b", name="B", roles=(), logins={"gitlab": "same"}),
        ),
    )
    assert principals("@same", twins) == frozenset()


def test_a_login_that_spells_a_role_does_not_become_that_role():
    people = People(
        roles={"platform": "tools"},
        people=(Person(id="mallory", name="M", roles=(), logins={"github": "platform"}),),
    )
    assert principals("@platform", people) == frozenset()


def test_a_harness_is_one_in_any_case_and_even_when_listed_as_a_person():
    assert is_harness("Bot", PEOPLE)
    assert is_harness("bot", PEOPLE)
    assert not is_harness("maya", PEOPLE)


def test_commit_names_and_addresses_are_claims_about_people():
    assert claimed_actors(["Maya Torres"], PEOPLE) == {"maya"}
    assert claimed_actors(["maya-t@users.example.org", "LI"], PEOPLE) == {"maya", "li"}
    assert claimed_actors(["someone", ""], PEOPLE) == frozenset()


def test_every_listed_key_says_who_signed_whether_it_counts_or_not():
    assert listed_keys(PEOPLE) == (("maya", KEY_A), ("li", KEY_B), ("Bot", KEY_C))


def test_login_and_account_together_are_one_person_at_one_forge():
    seven = {"accounts": {"github": 7}}
    numbered = tuple(person.model_copy(update=seven) if person.id == "maya" else person for person in PEOPLE.people)
    people = PEOPLE.model_copy(update={"people": numbered})
    assert account_holder(people, "github", "MAYA-T", 7) == "maya"
    others = [("gitlab", "maya-t", 7), ("github", "maya", 7), ("github", "", 7), ("github", "maya-t", 8)]
    for forge, login, account in (*others, ("github", "robot", 7)):
        assert account_holder(people, forge, login, account) is None
    assert account_holder(PEOPLE, "github", "maya-t", 7) is None, "a login alone may be somebody else's by now"
    same = {"logins": {"github": "same"}, "accounts": {"github": 7}}
    twins = People(roles={}, people=tuple(Person(id=name, name=name, roles=(), **same) for name in ("a", "b")))
    assert account_holder(twins, "github", "same", 7) is None
    assert "The same account at github stands under a and b." in people_problems(twins)


def test_what_makes_people_ambiguous_is_named():
    problems = people_problems(
        People(
            roles={"platform": "tools"},
            people=(
                Person(id="a", name="A", roles=("platform",), logins={"github": "x"}, keys=(SshKey(key=KEY_A),)),
                Person(id="A", name="A2", roles=("ghost",), logins={"github": "X"}, keys=(SshKey(key=KEY_A),)),
                Person(id="platform", name="P", roles=()),
            ),
        )
    )
    text = "\n".join(problems)
    assert len(problems) == 4
    for part in (
        "The id 'a' of a and the id 'A' of A are the same.",
        "SSH key stands under A and a",
        "'ghost'",
        "both a role and an id",
    ):
        assert part in text


def test_people_without_ambiguity_have_no_problems():
    assert people_problems(PEOPLE.model_copy(update={"people": PEOPLE.people[:2]})) == ()


@given(st.text(max_size=20))
def test_no_owner_stands_for_someone_who_is_not_a_person(owner):
    assert principals(owner, PEOPLE) <= {"maya", "li"}
