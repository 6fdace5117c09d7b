import os
import sys
from datetime import UTC, datetime, timedelta

import pytest

from modelsmith.forges import pre_receive
from modelsmith.forges.events import new_event
from modelsmith.forges.pre_receive import RefUpdate, check_push, install_hook, parse_updates
from modelsmith.forges.refusal import find_refusal, refusal_lines
from modelsmith.repository.git import Git
from modelsmith.schema.errors import (
    GateNotCleared,
    InfrastructureFailure,
    IntegrityFailure,
    InvalidInput,
    ModelsmithError,
)
from modelsmith.schema.promotion import ReviewsAttestation
from modelsmith.signing import ssh

PULL = "refs/modelsmith/pulls/1"
MAIN = "refs/heads/main"
ZERO = "0" * 40


@pytest.fixture
def pull(world):
    """An open, approved pull request, on a forge that had no hook yet."""
    return world.review("dana", world.propose(requester="maya"))


def push(world, new, ref, judge=lambda *_: None, receipts=lambda *_: {}, **more):
    """Judge an update as if it were pushed; its objects are in the forge already."""
    world.push(f"{new}:refs/heads/scratch", options=["--force"])
    old = world.forge_git.text("for-each-ref", "--format=%(objectname)", ref) or ZERO
    check_push(world.forge_git, [RefUpdate(old, new, ref)], judge, receipts, **more)


def refused(code, *args, **more):
    with pytest.raises(ModelsmithError) as caught:
        push(*args, **more)
    assert caught.value.code == code
    return caught.value


@pytest.mark.parametrize("odd", ["\u2028", "\u0085", "\x0b", "\r"])
def test_a_ref_may_hold_what_other_tools_take_for_the_end_of_a_line(odd):
    ref = f"refs/heads/a{odd}b"
    assert parse_updates(f"{ZERO} {ZERO} {ref}\n{ZERO} {ZERO} {MAIN}\n") == [
        RefUpdate(ZERO, ZERO, ref),
        RefUpdate(ZERO, ZERO, MAIN),
    ]


def test_what_git_does_not_say_to_a_hook_is_refused():
    assert parse_updates("") == []
    with pytest.raises(InfrastructureFailure) as caught:
        parse_updates("nonsense")
    assert caught.value.code == "bad-updates"


def test_a_refusal_that_is_no_json_a_reader_can_hold_is_passed_over():
    mark = refusal_lines(InvalidInput("code", "Said.", "Mend.")).splitlines()[1].partition("{")[0]
    refusal = find_refusal(f"remote: {mark}{'[' * 100_000}\n! [remote rejected] main (pre-receive hook declined)\n")
    assert refusal is not None
    assert refusal.code == "push-refused"


def test_a_merge_of_an_approved_pull_request_may_move_main(world, pull):
    recorded = []
    push(world, world.merge_commit(pull), MAIN, judge=lambda *facts: recorded.append(facts))
    ((judged, base, head),) = recorded
    assert (judged.number, judged.reviews, base, head) == (1, pull.reviews, world.main(), pull.head)


def test_the_gate_is_decided_again_when_main_moves(world, pull):
    def judge(*_):
        raise GateNotCleared("gate-closed", "No.", "Wait.")

    refused("gate-closed", world, world.merge_commit(pull), MAIN, judge=judge)


def test_main_does_not_move_by_a_plain_commit(world, pull):
    refused("protected-main", world, world.commit({"x": "y"}), MAIN)
    refused("protected-main", world, pull.head, MAIN)


def test_main_does_not_move_by_two_merges_an_octopus_or_swapped_parents(world, pull):
    merge, main = world.merge_commit(pull), world.main()
    tree = world.git.text("rev-parse", f"{merge}^{{tree}}")
    again = world.git.commit_tree(tree, [merge, pull.head], "again", world.who)
    octopus = world.git.commit_tree(tree, [main, pull.head, merge], "octopus", world.who)
    swapped = world.git.commit_tree(tree, [pull.head, main], "swapped", world.who)
    for commit in (again, octopus, swapped):
        refused("protected-main", world, commit, MAIN)


def test_main_is_neither_removed_nor_rewound_nor_made_anew(world, pull):
    main = world.main()
    for update in (RefUpdate(main, ZERO, MAIN), RefUpdate(ZERO, main, MAIN)):
        with pytest.raises(GateNotCleared) as caught:
            check_push(world.forge_git, [update], lambda *_: None, lambda *_: {})
        assert caught.value.code == "protected-main"


def test_a_forge_without_main_takes_its_first_commit(world):
    world.forge_git.run("update-ref", "-d", MAIN)
    push(world, world.commit({"x": "y"}, parent=world.git.commit_files(None, {}, "start", world.who)), MAIN)


def test_a_log_that_cannot_be_read_stops_the_merge_of_no_other(world, pull):
    """Somebody with the disk puts a ref there that is no log; it comes before the one that is merged."""
    merge = world.merge_commit(world.propose(files={"evals/second.yaml": "2"}, branch="second"))
    world.forge_git.run("update-ref", f"refs/modelsmith/pulls/{pull.number}", world.main())
    push(world, merge, MAIN)


def test_a_merge_that_adds_something_of_its_own_is_refused(world, pull):
    main = world.main()
    evil = world.git.commit_files(world.merge_commit(pull), {"evals/evil.yaml": b"x"}, "x", world.who)
    tree = world.git.text("rev-parse", f"{evil}^{{tree}}")
    refused("evil-merge", world, world.git.commit_tree(tree, [main, pull.head], "Merge", world.who), MAIN)


def test_a_head_that_is_no_open_pull_request_does_not_reach_main(world, pull):
    head, main = world.commit({"evals/q.yaml": "q"}), world.main()
    merge = world.git.commit_tree(world.git.merge_tree(main, head), [main, head], "Merge", world.who)
    refused("protected-main", world, merge, MAIN)
    commit = world.merge_commit(pull)
    world.forge().close(1, "no")
    refused("protected-main", world, commit, MAIN)


def test_a_pull_request_whose_events_do_not_verify_does_not_reach_main(world):
    with pytest.raises(IntegrityFailure):
        world.propose(actor="stranger")
    head, main = world.forge_git.rev(f"{PULL}^2"), world.main()
    merge = world.git.commit_tree(world.git.merge_tree(main, head), [main, head], "Merge", world.who)
    refused("unknown-key", world, merge, MAIN)


RECEIPTS = {"receipts/1.txt": b"dana"}


def test_exactly_the_receipts_that_are_due_may_follow_the_merge(world, pull):
    merge = world.merge_commit(pull)
    push(world, world.commit({"receipts/1.txt": "dana"}, merge), MAIN, receipts=lambda *_: RECEIPTS)


@pytest.mark.parametrize(
    "files",
    [
        {"receipts/1.txt": "noor"},
        {"receipts/1.txt": "dana", "more": "x"},
        {"receipts/2.txt": "dana"},
        {"receipts/1.txt": "dana", "evals/a.yaml": "changed"},
        {"receipts/1.txt": "dana", "evals/a.yaml": None},
        {},
    ],
)
def test_any_other_receipts_are_refused(world, pull, files):
    tip = world.commit(files, world.merge_commit(pull))
    refused("wrong-receipts", world, tip, MAIN, receipts=lambda *_: RECEIPTS)


def test_receipts_due_cannot_be_left_out_nor_written_when_none_are(world, pull):
    merge = world.merge_commit(pull)
    refused("wrong-receipts", world, merge, MAIN, receipts=lambda *_: RECEIPTS)
    refused("wrong-receipts", world, world.commit({"receipts/1.txt": "dana"}, merge), MAIN)
    refused("wrong-receipts", world, world.commit({}, merge), MAIN)


@pytest.mark.parametrize(
    "files", [{f"receipts/{name}": name * 400_000 for name in "abc"}, {f"receipts/{name}": "x" for name in range(300)}]
)
def test_files_that_no_receipts_could_be_are_refused_unread(world, pull, files, monkeypatch):
    tip = world.commit(files, world.merge_commit(pull))
    blobs = [change.new_blob for change in world.git.change(f"{tip}^", tip).paths]
    read_blobs = Git.read_blobs

    def reading(git, oids):
        assert not set(blobs) & set(oids)
        return read_blobs(git, oids)

    monkeypatch.setattr(Git, "read_blobs", reading)
    refused("over-limits", world, tip, MAIN, receipts=lambda *_: RECEIPTS)


def test_a_receipt_that_is_a_link_is_refused(world, pull):
    merge = world.merge_commit(pull)
    blob = world.git.text("hash-object", "-w", "--stdin", input=b"dana")
    folder = world.git.text("mktree", input=f"120000 blob {blob}\t1.txt\n".encode())
    entries = world.git.run("ls-tree", merge) + f"040000 tree {folder}\treceipts\n".encode()
    tree = world.git.text("mktree", input=entries)
    refused(
        "wrong-receipts",
        world,
        world.git.commit_tree(tree, [merge], "r", world.who),
        MAIN,
        receipts=lambda *_: RECEIPTS,
    )


def event(world, kind, actor="smith", signer=None, tip=None, proof=None, **fields):
    """Commit of an event, made by hand."""
    forge = world.forge(signer or actor)
    tip = tip or world.forge_git.rev(PULL)
    forge.fetch_into(world.git)
    last = forge._reader.log(tip)[-1]
    at = fields.pop("at", None) or pre_receive.datetime.now(pre_receive.UTC).replace(microsecond=0)
    base = fields.pop("base", world.main())
    event_made = new_event(last, kind, actor, at, base).model_copy(update=fields)
    return forge._commit(event_made, proof, (tip,))


def test_a_signed_event_may_be_added(world, pull):
    push(world, event(world, "commented", body="Hello."), PULL)


def test_events_are_never_removed_or_rewritten(world, pull):
    opened = world.forge_git.rev(f"{PULL}~1")
    refused("append-only", world, opened, PULL)
    refused("append-only", world, event(world, "commented", tip=opened), PULL)
    with pytest.raises(GateNotCleared, match="only grow"):
        check_push(world.forge_git, [RefUpdate(world.forge_git.rev(PULL), ZERO, PULL)], lambda *_: None, lambda *_: {})


def test_an_event_signed_by_another_than_its_actor_is_refused(world, pull):
    refused("forged-event", world, event(world, "commented", actor="dana", signer="smith"), PULL)
    refused("unknown-key", world, event(world, "commented", actor="dana", signer="stranger"), PULL)


def test_an_approval_signed_by_another_is_refused(world, pull):
    statement = world.statement("dana", pull)
    proof = world.sign(statement, "smith")
    commit = event(world, "reviewed", "dana", proof=proof, verdict="approve", change=statement.change)
    refused("forged-event", world, commit, PULL)


@pytest.mark.parametrize("said", [{"pull": 2}, {"head": "1" * 40}, {"previous": "1" * 40}, {"kind": "opened"}])
def test_an_event_about_another_pull_request_is_refused(world, pull, said):
    refused("bad-event", world, event(world, **({"kind": "commented"} | said)), PULL)


def test_an_event_of_another_repository_is_refused(world, pull):
    refused("bad-event", world, event(world, "commented", repository="elsewhere"), PULL)


def test_a_pull_request_stays_under_its_own_number(world, pull):
    refused("bad-event", world, world.forge_git.rev(PULL), "refs/modelsmith/pulls/2")


def test_a_merge_that_did_not_happen_cannot_be_logged(world, pull):
    refused("false-merge", world, event(world, "merged", merge=world.merge_commit(pull)), PULL)


def test_a_merged_pull_request_cannot_be_logged_as_closed(world, pull):
    world.push(f"{world.merge_commit(pull)}:{MAIN}")
    refused("not-open", world, event(world, "closed"), PULL)


def test_nothing_but_comments_follows_the_end(world, pull):
    world.forge().close(1, "no")
    push(world, event(world, "commented"), PULL)
    refused("bad-event", world, event(world, "closed"), PULL)


@pytest.mark.parametrize("minutes", [-30, 30])
def test_an_event_is_not_dated_back_or_ahead(world, pull, minutes):
    now = pre_receive.datetime.now(pre_receive.UTC).replace(microsecond=0)
    refused("wrong-time", world, event(world, "commented", at=now + timedelta(minutes=minutes)), PULL)


def test_an_event_names_a_main_that_was(world, pull):
    refused("unrelated-base", world, event(world, "commented", base=pull.head), PULL)


@pytest.mark.parametrize("kind", ["commented", "closed", "opened"])
def test_an_event_names_a_main_that_listed_its_key(world, pull, kind):
    """Else whoever leaves would make the log unreadable for everybody: taken out, the key is looked for there."""
    before = world.main()
    key = ssh.public_key(world.keys / "stranger.pub")
    world.people(lambda people: people["noor"].update(keys=[{"key": key}]))
    forge = world.forge("stranger")
    first = forge._reader.log(world.forge_git.rev(PULL))[0].event
    opening = first.model_copy(update={"pull": 2, "actor": "noor", "requester": "noor"})

    def commit_event(base):
        if kind == "opened":
            return forge._commit(opening.model_copy(update={"base": base}), None, (forge._root(), opening.head))
        return event(world, kind, "noor", "stranger", base=base)

    ref = "refs/modelsmith/pulls/2" if kind == "opened" else PULL
    refused("unrelated-base", world, commit_event(before), ref)
    if kind != "closed":
        push(world, commit_event(world.main()), ref)


def test_a_new_pull_request_takes_the_next_number_and_states_its_change(world, pull):
    second = world.propose({"evals/c.yaml": "3"}, branch="two")
    ref = f"refs/modelsmith/pulls/{second.number}"
    tip = world.forge_git.rev(ref)
    world.forge_git.run("update-ref", "-d", ref)
    push(world, tip, ref)
    world.forge_git.run("update-ref", "-d", PULL)
    refused("skipped-number", world, tip, ref)


def test_a_pull_request_that_misstates_its_change_is_refused(world, pull):
    forge = world.forge()
    first = forge._reader.log(world.forge_git.rev(PULL))[0].event
    lie = first.model_copy(update={"pull": 2, "change": "sha256:" + "0" * 64})
    commit = forge._commit(lie, None, (forge._root(), first.head))
    refused("wrong-change", world, commit, "refs/modelsmith/pulls/2")


@pytest.mark.parametrize(
    "ref",
    [
        "refs/pull/1/head",
        "refs/replace/" + "1" * 40,
        "refs/notes/commits",
        "refs/modelsmith/pulls/01",
        "refs/modelsmith/pulls/x",
        "refs/modelsmith/pulls/1/x",
        "refs/modelsmith/pulls/\u0661",
        "refs/modelsmith/main",
        "refs/Modelsmith/pulls/1",
        "refs/heads/Main",
        "refs/anything",
    ],
)
def test_refs_with_a_meaning_are_not_for_pushing(world, ref):
    with pytest.raises(GateNotCleared) as caught:
        check_push(world.forge_git, [RefUpdate(ZERO, world.main(), ref)], lambda *_: None, lambda *_: {})
    assert caught.value.code == "reserved-ref"


@pytest.mark.parametrize("ref", ["refs/heads/topic", "refs/heads/mainline", "refs/heads/main-2", "refs/tags/v1"])
def test_other_branches_and_tags_are_free(world, ref):
    check_push(world.forge_git, [RefUpdate(ZERO, world.main(), ref)], lambda *_: None, lambda *_: {})


def test_one_bad_update_refuses_the_whole_push(world, pull):
    updates = [
        RefUpdate(ZERO, world.main(), "refs/heads/fine"),
        RefUpdate(world.main(), pull.head, MAIN),
    ]
    with pytest.raises(GateNotCleared):
        check_push(world.forge_git, updates, lambda *_: None, lambda *_: {})


def test_the_hooks_input_is_read_line_by_line():
    assert parse_updates(f"{ZERO} {'1' * 40} {MAIN}\n") == [RefUpdate(ZERO, "1" * 40, MAIN)]
    assert parse_updates("") == []


@pytest.mark.parametrize("kind", [InvalidInput, GateNotCleared, IntegrityFailure])
def test_a_refusal_travels_through_git_unchanged(kind):
    lines = refusal_lines(kind("some-code", 'It says "no".', "Mend \u00e4."))
    through_git = "".join(f"remote: {line}        \n" for line in lines.splitlines())
    error = find_refusal(f"{through_git}To /somewhere\n ! [remote rejected] main\n")
    assert type(error) is kind
    assert (error.code, error.message, error.mend) == ("some-code", 'It says "no".', "Mend \u00e4.")


def test_a_hook_that_refuses_in_its_own_words_is_understood():
    error = find_refusal(
        "remote: Not on        \nremote: Fridays.        \n ! [remote rejected] x (pre-receive hook declined)\n"
    )
    assert isinstance(error, GateNotCleared)
    assert error.message == "The forge's hook refused: Not on Fridays."


def test_other_output_is_no_refusal():
    assert find_refusal("remote: modelsmith-refusal: {}\nremote: modelsmith-refusal: nonsense\nfatal: x") is None


def test_the_installed_hook_lets_an_approved_change_through_and_no_more(guarded):
    pull = guarded.propose(requester="maya")
    with pytest.raises(GateNotCleared) as caught:
        guarded.merge(pull)
    assert caught.value.code == "gate-closed"
    assert "@domain-lead" in caught.value.message
    pull = guarded.review("dana", pull)
    merge, main = guarded.merge_commit(pull), guarded.main()
    with pytest.raises(GateNotCleared) as caught:
        guarded.forge().merge(1, merge, main)
    assert caught.value.code == "wrong-receipts"
    tip = guarded.commit({"receipts/1.txt": "dana"}, merge)
    assert guarded.forge().merge(1, tip, main).status == "merged"


def test_the_installed_hook_merges_what_the_harness_may_decide(guarded):
    pull = guarded.propose({"notes/a.txt": "hello"}, requester="maya")
    assert guarded.merge(pull).status == "merged"


def test_the_installed_hook_refuses_plain_pushes_in_words(guarded):
    ok, output = guarded.push(f"{guarded.commit({'x': 'y'})}:{MAIN}")
    assert not ok
    assert "modelsmith: protected-main: Main moves only by merging a pull request." in output
    ok, _ = guarded.push(f"{guarded.commit({'x': 'y'})}:refs/heads/topic")
    assert ok
    ok, output = guarded.push(":refs/heads/topic")
    assert not ok


def test_a_harness_without_a_persons_key_cannot_pass_the_hook(guarded):
    guarded.propose(requester="maya")
    pull = guarded.forge().get(1)
    guarded.forge("smith").review(1, guarded.sign(guarded.statement("smith", pull)))
    with pytest.raises(GateNotCleared, match="@domain-lead"):
        guarded.merge(pull)


@pytest.mark.usefixtures("installed_hook")
def test_an_unknown_person_cannot_open_a_pull_request_through_the_hook(guarded):
    with pytest.raises(IntegrityFailure) as caught:
        guarded.propose(actor="stranger")
    assert caught.value.code == "unknown-key"
    assert guarded.forge().list() == ()


def test_the_hook_is_installed_with_the_settings_it_relies_on(world):
    for _ in range(2):
        install_hook(world.bare, "/opt/some python/bin/python3")
    hook = world.bare / "hooks" / "pre-receive"
    assert os.access(hook, os.X_OK)
    assert hook.read_text().splitlines()[-1] == "exec '/opt/some python/bin/python3' -P -m modelsmith hook pre-receive"
    settings = world.forge_git.text("config", "--local", "--list").splitlines()
    for setting in ("receive.denydeletes", "receive.denynonfastforwards", "receive.fsckobjects"):
        assert f"{setting}=true" in settings


def test_the_installed_hook_runs_although_users_name_other_hooks(world):
    install_hook(world.bare, sys.executable)
    (world.bare / "hooks" / "pre-receive").write_text("#!/bin/sh\necho was here >&2\nexit 1\n")
    ok, output = world.push(f"{world.commit({'x': 'y'})}:refs/heads/topic")
    assert not ok
    assert "was here" in output


def test_a_push_that_goes_round_the_hook_is_detected_when_reading(guarded):
    """What no hook on one's own disk can stop."""
    guarded.propose(requester="maya")
    forge = guarded.forge("stranger")
    forge.fetch_into(guarded.git)
    tip = guarded.forge_git.rev(PULL)
    last = forge._reader.log(tip)[-1]
    forged = forge._commit(new_event(last, "closed", "dana", last.event.at, guarded.main()), None, (tip,))
    around = "--receive-pack=git -c core.hooksPath=/dev/null receive-pack"
    ok, _ = guarded.push(f"{forged}:{PULL}", options=[around])
    assert ok
    with pytest.raises(IntegrityFailure):
        guarded.forge().get(1)


def reading(pull):
    """What a workflow would have read of a pull request's reviews."""
    return ReviewsAttestation(
        repository="test-repository", forge="github", hosted="acme/promotions", hosted_id=1,
        pull=pull.number, head=pull.head, base=pull.base, change=f"sha256:{'1' * 64}", reviews=(),
        read_at=datetime.now(UTC).replace(microsecond=0),
    )  # fmt: skip


def test_a_forge_of_ones_own_takes_no_reading_of_reviews(world, pull):
    before = world.forge_git.rev(PULL)
    world.forge().attest(reading(pull), b"{}")
    tip = world.forge_git.rev(PULL)
    world.forge_git.run("update-ref", PULL, before)
    refused("not-attested-here", world, tip, PULL)


def test_a_reading_that_nobody_signed_hides_no_pull_request(world, pull):
    """Where no hook is, whoever may push can put one into a log: the gate finds that it is nothing."""
    before = world.forge().get(1)
    for _ in range(2):
        world.forge().attest(reading(pull), '{"made":"—"}'.encode())
    after = world.forge().get(1)
    assert after.attested == ('{"made":"—"}',), "the very same again changes nothing"
    assert after.model_copy(update={"attested": ()}) == before
