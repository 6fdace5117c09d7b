"""The commits that a merge itself adds to main, written by hand: whatever the hook lets in verifies for ever."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from attacker import HARNESS, MAIN, NOBODY, PEOPLE_FILE, World
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelsmith.promotion.receipts import Merged, receipt_files

Form = Callable[[bytes], bytes]
"""From a sound commit to an odd one."""

NOW = timedelta(0)


def message(text: bytes) -> Form:
    return lambda raw: raw.partition(b"\n\n")[0] + b"\n\n" + text


def header(line: bytes) -> Form:
    return lambda raw: raw.replace(b"\n\n", b"\n" + line + b"\n\n", 1)


def instead(pattern: bytes, new: bytes | Callable[[re.Match[bytes]], bytes]) -> Form:
    return lambda raw: re.sub(pattern, new, raw, count=1, flags=re.M)


FORMS: dict[str, Form] = {
    "as it should be": lambda raw: raw,
    "a message of five megabytes": message(b"x" * 5_000_000 + b"\n"),
    "no message": message(b""),
    "no end of its header": lambda raw: raw.partition(b"\n\n")[0] + b"\n",
    "a message that is no text": message(b"\xff\xfe\x80\n"),
    "a NUL byte": message(b"one\0two\n"),
    "line feeds in another encoding": lambda raw: header(b"encoding UTF-7")(message(b"+AAoACgAA-\n")(raw)),
    "an encoding that nobody knows": header(b"encoding of-mine"),
    "a signature of nothing": header(b"gpgsig -----BEGIN SSH SIGNATURE-----\n eA==\n -----END SSH SIGNATURE-----"),
    "a tag within": header(b"mergetag object " + b"0" * 40 + b"\n type commit\n tag x\n \n x"),
    "an unknown header": header(b"x-note \xff\n more"),
    "a header of parents after its author": header(b"parent " + b"1" * 40),
    "names that are no text": instead(rb"^author .* <.*>", b"author \xff\x1b[2J <\x80>"),
    "no name": instead(rb"^author .* <.*>", b"author  <>"),
    "two authors": instead(rb"^(author .*)$", rb"\1\n\1"),
    "no author": instead(rb"^author .*\n", b""),
    "a date in the year 2286": instead(rb"^committer (.*) \d+ ", rb"committer \1 9999999999 "),
    "a date beyond counting": instead(rb"^committer (.*) \d+ ", rb"committer \1 99999999999999999999 "),
    "a time zone that is none": instead(rb"[+]0000$", b"-9999"),
    "the id of its tree in capitals": instead(rb"^tree .*$", lambda match: b"tree " + match[0][5:].upper()),
    "the id of its parent in capitals": instead(rb"^parent .*$", lambda match: b"parent " + match[0][7:].upper()),
    "a parent twice": instead(rb"^(parent .*)\nauthor", rb"\1\n\1\nauthor"),
    "its parents the other way round": instead(rb"^(parent .*)\n(parent .*)$", rb"\2\n\1"),
    "its parents before its tree": instead(rb"^(tree .*)\n(parent .*)$", rb"\2\n\1"),
}

HARMLESS = ["a message that is no text", "an encoding that nobody knows", "an unknown header", "names that are no text"]
"""Odd, and let in: git and the toolkit read them alike."""


def raw_commit(world: World, tree: str, parents: tuple[str, ...], form: Form) -> str:
    """A commit of this form, written past what git would write."""
    ident = f"M <m@example.org> {int(datetime.now(UTC).timestamp())} +0000"
    lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents), f"author {ident}", f"committer {ident}"]
    raw = form("\n".join(lines).encode() + b"\n\nMerge\n")
    return world.git.text("hash-object", "-t", "commit", "-w", "--literally", "--stdin", input=raw)


def raw_merge(world: World, number: int, merge_form: Form, receipts_form: Form, ahead: timedelta = NOW) -> str:
    """An approved pull request, merged with the forms of one's choice; the receipts are honest, but for their time."""
    judged, pull = world.gate(number), world.as_(HARNESS).get(number)
    assert judged.decision.open
    world.fetch()
    world.git.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(world.forge), world.main())
    merge = raw_commit(world, world.git.merge_tree(world.main(), pull.head), (world.main(), pull.head), merge_form)
    merged = Merged(merge, HARNESS, datetime.now(UTC).replace(microsecond=0) + ahead)
    files = receipt_files(pull, judged.change, judged.decision, merged, world.signer(HARNESS))
    plain = raw_commit(world, judged.tree, (), FORMS["as it should be"])
    tree = world.git.text("rev-parse", f"{world.git.commit_files(plain, files, 'x', NOBODY)}^{{tree}}")
    return raw_commit(world, tree, (merge,), receipts_form)


def approved(world: World) -> int:
    number = world.propose({"docs/x.md": b"x\n"})
    world.approve(number, "paul")
    return number


@pytest.mark.parametrize("which", ["merge", "receipts"])
def test_a_merge_of_megabytes_is_refused_and_forced_in_it_stops_nobody(fresh, which):
    """Five megabytes of words in the merge commit once ended verify, for everybody and for good."""
    long, plain = FORMS["a message of five megabytes"], FORMS["as it should be"]
    forms = (long, plain) if which == "merge" else (plain, long)
    tip = raw_merge(fresh, approved(fresh), *forms)
    result = fresh.push(f"{tip}:{MAIN}")
    assert result.returncode
    assert "over-limits" in result.stderr
    fresh.push_without_hooks(f"{tip}:{MAIN}")
    assert fresh.holds().changes == 1


def test_whatever_form_a_merge_has_the_hook_refuses_it_or_it_verifies(fresh):
    """Odd bytes, headers, ids, times and parents that git takes, in the two commits that a merge adds."""
    number, before = approved(fresh), fresh.main()
    forms = st.lists(st.sampled_from(sorted(FORMS)), min_size=1, max_size=3, unique=True)
    plain = ["as it should be"]

    @settings(max_examples=4, deadline=None)
    @given(merge=forms, receipts=forms)
    @example(merge=["the id of its tree in capitals"], receipts=plain)
    @example(merge=plain, receipts=["a parent twice"])
    @example(merge=HARMLESS, receipts=HARMLESS)
    def pushed(merge: list[str], receipts: list[str]) -> None:
        tip = raw_merge(fresh, number, composed(merge), composed(receipts))
        result = fresh.push(f"{tip}:{MAIN}")
        if result.returncode:
            assert not {*merge, *receipts} <= {*HARMLESS, *plain}
            assert "[remote rejected]" in result.stderr
            assert fresh.main() == before
        else:
            fresh.holds()
            fresh.rewrite_on_disk(MAIN, before)

    pushed()


def test_a_merge_dated_after_the_end_of_an_approver_s_key_is_refused(fresh):
    """The forge's clock said that the key had not ended, the receipt that it had: verify refused, for good."""
    end = (datetime.now(UTC) + timedelta(minutes=8)).strftime("%Y-%m-%dT%H:%M:%SZ")
    people = yaml.safe_load(fresh.bare.text("show", f"{fresh.main()}:{PEOPLE_FILE}"))
    next(person for person in people["people"] if person["id"] == "paul")["keys"][0]["valid_before"] = end
    fresh.force_honestly({PEOPLE_FILE: yaml.safe_dump(people, sort_keys=False).encode()}, "paul")
    number, plain = approved(fresh), FORMS["as it should be"]
    result = fresh.push(f"{raw_merge(fresh, number, plain, plain, timedelta(minutes=9))}:{MAIN}")
    assert result.returncode
    assert "gate-closed" in result.stderr or "approval-missing" in result.stderr
    assert fresh.push(f"{raw_merge(fresh, number, plain, plain)}:{MAIN}").returncode == 0
    fresh.holds()


def composed(names: list[str]) -> Form:
    def form(raw: bytes) -> bytes:
        for name in names:
            raw = FORMS[name](raw)
        return raw

    return form
