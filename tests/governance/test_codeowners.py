import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelsmith.governance.codeowners import MAX_BYTES, MOST_RULES, any_matches, compile_pattern, parse, pattern_problem


@pytest.mark.parametrize(
    ("pattern", "path", "covered"),
    [
        ("*", "a/b/c.py", True),
        ("*.js", "src/deep/app.js", True),
        ("*.js", "app.jsx", False),
        ("/build/logs/", "build/logs/a/b", True),
        ("/build/logs/", "x/build/logs/a", False),
        ("/build/logs/", "build/logs", False),
        ("docs/*", "docs/a.md", True),
        ("docs/*", "docs/deep/a.md", False),
        ("apps/", "x/apps/y/z", True),
        ("apps/", "apps", False),
        ("docs/", "docs/a", True),
        ("/docs", "docs/a/b", True),
        ("/docs", "docs", True),
        ("docs/guide", "docs/guide/a", True),
        ("docs/guide", "x/docs/guide", False),
        ("**/logs", "a/b/logs/x", True),
        ("**/logs", "logs", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b/c", True),
        ("a/**", "a", False),
        ("a/**", "a/b/c", True),
        ("**", "anything/at/all", True),
        ("*/", "top", False),
        ("*/", "dir/file", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("a*?c", "abbbc", True),
        ("***.md", "x.md", True),
        ("a**b/x", "a--b/x", True),
        ("a**b/x", "a/b/x", False),
        ("/Evals/", "evals/x", False),
        ("a.b", "aXb", False),
        ("/promotions/*/*/*-customer-deployed/", "promotions/c/s/04-customer-deployed/record.json", True),
        ("/promotions/*/*/*-customer-deployed/", "promotions/c/s/04-customer-deployed/receipts/a.json", True),
        ("/promotions/*/*/*-customer-deployed/", "promotions/c/s/04-candidate/record.json", False),
        ("/promotions/*/*/*-customer-deployed/", "promotions/c/s/t/04-customer-deployed/record.json", False),
        ("foo\\ bar", "x/foo bar/y", True),
        ("a\\*", "a*", True),
        ("a\\*", "ab", False),
        ("/x/\\[id\\]/", "x/[id]/y", True),
        ("a//b", "a/b", False),
    ],
)
def test_patterns_cover_the_paths_that_github_says(pattern, path, covered):
    assert pattern_problem(pattern) is None
    assert compile_pattern(pattern).matches(path) is covered


def test_the_last_matching_line_wins():
    owners = parse("* @all\n/evals/ @domain\n/evals/x @other\n")
    assert owners.owners("README.md") == ("@all",)
    assert owners.owners("evals/y/z") == ("@domain",)
    assert owners.owners("evals/x/z") == ("@other",)
    assert owners.rule("evals/y").line == 2


def test_a_line_without_owners_differs_from_no_line():
    owners = parse("/evals/ @domain\n/evals/free/\n")
    assert owners.rule("evals/free/x").owners == ()
    assert owners.rule("elsewhere") is None
    assert owners.owners("evals/free/x") == owners.owners("elsewhere") == ()


@pytest.mark.parametrize(
    "line",
    [
        "/evals/ @thief not-an-owner",
        "/evals/ @thief@",
        "/evals/ @thief#comment",
        "/evals/ @-thief",
        "/evals/ @th\u0456ef",
        "!/evals/ @thief",
        "/evals/[a-z]* @thief",
        "\\#evals @thief",
        "\\!evals @thief",
        "/ @thief",
        "/evals/\\",
        "/evals\\/x @thief",
        "/evals/\u2028 @thief",
        "/evals/\u00a0@thief",
        "/evals/\x0b@thief",
        "\ufeff/evals/ @thief",
    ],
)
def test_a_line_with_a_mistake_owns_nothing_and_is_reported(line):
    owners = parse(f"* @owner\n{line}\n")
    assert owners.owners("evals/x/y") == ("@owner",)
    assert [number for number, _ in owners.errors] == [2]


def test_comments_own_nothing_even_with_odd_characters_in_them():
    owners = parse("# * @thief\n  # x @thief\n/a/ @one # @two\n/b/ @one #\u2028* @two\r\n")
    assert owners.errors == ()
    assert [rule.owners for rule in owners.rules] == [("@one",), ("@one",)]


def test_only_a_line_feed_ends_a_line():
    owners = parse("* @owner\n# note\x0c* @thief\n# note\u2028* @thief\n# note\x85* @thief")
    assert owners.owners("x") == ("@owner",)
    assert len(owners.rules) == 1


def test_users_teams_and_mail_addresses_are_owners():
    assert parse("/x @octo_cat @org/team.a me@example.org").owners("x") == (
        "@octo_cat",
        "@org/team.a",
        "me@example.org",
    )


def test_windows_line_ends_are_read():
    assert parse("/x @a\r\n/y @b\r\n").owners("y") == ("@b",)


def test_a_file_over_three_megabytes_is_not_loaded():
    owners = parse("* @owner\n" + "#" * MAX_BYTES)
    assert owners.rules == ()
    assert not owners.loaded
    assert parse("* @owner\n").loaded


def test_a_file_of_more_rules_than_are_asked_is_not_loaded():
    most = parse("# a comment\n" + "* @owner\n" * MOST_RULES)
    assert most.loaded
    assert most.owners("x") == ("@owner",)
    for line in ("/docs @other", "!no @other"):
        owners = parse("# a comment\n" + "* @owner\n" * MOST_RULES + f"{line}\n" * 3)
        assert [number for number, _ in owners.errors] == [MOST_RULES + 2]
        assert f"more than {MOST_RULES} rules" in owners.errors[0][1]
        assert not owners.loaded
        assert owners.owners("x") == ()


def test_unsupported_patterns_cover_nothing_in_policy_lists():
    assert not any_matches(["!x", "[x]", "/", ""], "x")
    assert any_matches(["y", "/x/"], "x/z")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 40 + "b", "a" * 4000),
        ("**/a/" * 20 + "b", "/".join("a" * 2000)),
        ("?*" * 30 + "x", "a" * 4000),
    ],
)
@pytest.mark.timeout(60)
def test_no_pattern_makes_matching_hang(pattern, path):
    assert not compile_pattern(pattern).matches(path)


SEGMENT = st.text("ab", min_size=1, max_size=3)
PATH = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)
GLOB_SEGMENT = st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=4))
PATTERN = st.tuples(
    st.sampled_from(["", "/"]), st.lists(GLOB_SEGMENT, min_size=1, max_size=4).map("/".join), st.sampled_from(["", "/"])
).map("".join)


def naive(pattern: str, path: str) -> bool:
    """The dialect by plain recursion: slow and obvious."""

    def segment(glob: str, text: str) -> bool:
        if not glob:
            return not text
        if glob[0] == "*":
            return any(segment(glob[1:], text[i:]) for i in range(len(text) + 1))
        return bool(text) and glob[0] in ("?", text[0]) and segment(glob[1:], text[1:])

    def walk(globs: list[str], parts: list[str]) -> bool:
        if not globs:
            return not parts
        if globs[0] == "**":
            return any(walk(globs[1:], parts[i:]) for i in range(len(parts) + 1))
        return bool(parts) and segment(globs[0], parts[0]) and walk(globs[1:], parts[1:])

    globs = pattern.strip("/").split("/")
    if "/" not in pattern.rstrip("/"):
        globs = ["**", *globs]
    if pattern.endswith(("/", "/**")):
        globs = [*globs, "**", "*"]
    elif not pattern.endswith("/*"):
        globs = [*globs, "**"]
    return walk(globs, path.split("/"))


@given(PATTERN, PATH)
def test_fast_matching_agrees_with_the_obvious_definition(pattern, path):
    assert compile_pattern(pattern).matches(path) == naive(pattern, path)


@given(st.lists(st.tuples(PATTERN, st.sampled_from(["", "@a", "@b @c"])), max_size=6), PATH)
def test_the_owner_is_always_the_last_covering_line(lines, path):
    owners = parse("\n".join(f"{pattern} {owner}" for pattern, owner in lines))
    expected = [tuple(owner.split()) for pattern, owner in lines if naive(pattern, path)]
    assert owners.errors == ()
    assert owners.owners(path) == (expected[-1] if expected else ())


@given(st.text(max_size=200))
@example("\\")
def test_any_text_parses_and_every_line_is_read_reported_or_a_comment(text):
    owners = parse(text)
    numbers = [rule.line for rule in owners.rules] + [line for line, _ in owners.errors]
    assert len(numbers) == len(set(numbers))
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip(" \t\r") and not line.lstrip(" \t").startswith("#"):
            assert number in numbers


@given(st.text("ab/@ #\\*\t", max_size=60))
def test_an_added_comment_line_changes_no_owner(text):
    before, after = parse(text), parse(text + "\n# @x *\n")
    assert [(r.pattern, r.owners) for r in before.rules] == [(r.pattern, r.owners) for r in after.rules]
