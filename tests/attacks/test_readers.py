"""Attacks on what two readers of one file take for two things: a parser, and a person who reads the diff."""

from __future__ import annotations

import pytest
from attacker import CODEOWNERS, PEOPLE_FILE, POLICY, SET

SCENARIO = f"{SET}/scenarios/auction-timeout/timeout-core-99.yaml"
TRUST = ".github/governance/trust/harness.pem"


def text(world, path):
    """A governed file of main."""
    return world.governed().tree.read(path).decode()


def scenario(words):
    """A new core scenario whose message holds the words."""
    return (
        "id: timeout-core-99\ncapability: auction-timeout\nrisk: low\noperator_lens: sre\noutcome_type: lost-auctions\n"
        f"messages:\n  - role: user\n    content: {words}\nreference: {{cause: timeout, action: cut_latency}}\n"
        "criteria:\n  - {point: cause, pass: Names it., fail: Does not.}\n"
    )


def hidden_key(world):
    """A role whose holder a comment seems to name: for libyaml the comment ends before the line does."""
    owner = "  # asked for by finance\u2028  oncall-sre: Everybody.\n"
    return {PEOPLE_FILE: text(world, PEOPLE_FILE).replace("roles:\n", f"roles:\n{owner}", 1)}, "U+2028 LINE SEPARATOR"


def swallowed_key(world):
    """A line that looks like a field of its own and belongs to the quoted text before it."""
    return {POLICY: text(world, POLICY) + 'description: "x\nlimits: y"\n'}, "indented like a new field"


def turned_text(_world):
    """What is shown in another order than it is read."""
    return {SCENARIO: scenario("Is it \u202etuoemit\u202c?")}, "U+202E RIGHT-TO-LEFT OVERRIDE"


def unseen_letter(_world):
    """A right answer that no model ever gives."""
    return {SCENARIO: scenario("Why?").replace("timeout, act", "time\u200bout, act")}, "U+200B ZERO WIDTH SPACE"


def hidden_owner(world):
    """An owner in a comment that another reader of CODEOWNERS takes for a line."""
    return {CODEOWNERS: text(world, CODEOWNERS) + "# x\u2028* @mallory\n"}, "U+2028 LINE SEPARATOR"


def second_trust_key(world):
    """A key below the one that is used, which the next toolkit might use."""
    pem = text(world, TRUST)
    return {TRUST: f"{pem}{pem}"}, "something besides one key"


def cyrillic_field(world):
    """A field that reads like a known one and is another."""
    return {POLICY: text(world, POLICY) + "re\u0440ository: x\n"}, "U+0440 CYRILLIC SMALL LETTER ER"


def empty_letter(_world):
    """A letter that fonts draw as nothing, and that no table of controls names."""
    return {SCENARIO: scenario("Why?").replace("timeout, act", "timeout\U00016fe4, act")}, "U+16FE4 KHITAN"


def letter_to_come(_world):
    """A character that nobody has assigned yet: what it shows, each font decides."""
    return {SCENARIO: scenario("Why?").replace("timeout, act", "timeout\u0378, act")}, "U+0378"


def owner_of_nothing(world):
    """A line of CODEOWNERS that looks as it did, and takes a folder from its owner."""
    return {CODEOWNERS: text(world, CODEOWNERS).replace("/evals/", "/evals\U00016fe4/")}, "U+16FE4 KHITAN"


def owner_of_a_look_alike(world):
    """The same with a letter that everybody sees, and takes for another."""
    return {CODEOWNERS: text(world, CODEOWNERS).replace("/evals/", "/\u0435vals/")}, "paths here are ASCII"


ATTACKS = (
    hidden_key, swallowed_key, turned_text, unseen_letter, hidden_owner, second_trust_key, cyrillic_field, empty_letter,
    letter_to_come, owner_of_nothing, owner_of_a_look_alike,
)  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=[attack.__name__ for attack in ATTACKS])
def test_what_a_diff_hides_and_a_parser_reads_is_refused(fresh, attack):
    """Every owner approved what they saw; the file is refused for what they did not see."""
    files, saying = attack(fresh)
    fresh.closed_to_everybody(
        fresh.commit({path: data.encode() for path, data in files.items()}), "check-failed", saying
    )


def test_texts_of_every_language_pass_where_the_diff_shows_each_character(fresh):
    """The control: joiners and marks, written as escapes, are what scenarios in Persian, Hindi or Hebrew need."""
    words = '"\\u0645\\u06cc\\u200c\\u062e\\u0648\\u0627\\u0647\\u0645, \\u0915\\u094d\\u200d\\u0937, \\u200f\\u05d0!"'
    number = fresh.propose({SCENARIO: scenario(words).encode()}, "oli")
    fresh.approve(number, "dana")
    assert fresh.merge(number).status == "merged"


def test_a_pull_request_of_doubled_keys_keeps_nobody_busy(fresh):
    """Reading ends with the hundredth: what it costs everybody else does not grow with the square of the file."""
    data = "".join(f"k{number}: 1\nk{number}: 2\n" for number in range(12_000)).encode()
    gate = fresh.gate(fresh.propose({"clusters/x/cluster.yaml": data}, "petra"))
    [refusal] = [refusal.sentence for refusal in gate.decision.refusals if refusal.code == "check-failed"]
    assert len(refusal) < 50_000
