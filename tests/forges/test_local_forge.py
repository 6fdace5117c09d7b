import json

import pytest

from modelsmith.forges.chains import LARGEST_EVENT, LARGEST_LINK
from modelsmith.forges.events import new_event
from modelsmith.forges.local import LocalForge
from modelsmith.forges.port import ForgeIdentity
from modelsmith.forges.pre_receive import RefUpdate, check_push
from modelsmith.forges.reader import OUTLINES, Reader
from modelsmith.repository.kept_facts import KeptFacts
from modelsmith.schema.canonical import canonical_json
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError
from modelsmith.signing import ssh

PULL = "refs/modelsmith/pulls/1"


def files_of(world, commit):
    return {path: world.forge_git.read_blob(blob) for path, (_, blob) in world.forge_git.list_tree(commit).items()}


def tip(world):
    return world.forge_git.rev(PULL)


def push_judged(world, commit):
    """What the hook says of a new last event."""
    world.push(f"{commit}:refs/heads/scratch", options=["--force"])
    check_push(world.forge_git, [RefUpdate(tip(world), commit, PULL)], lambda *_: None, lambda *_: {})


def rewrite(world, change, commit=None):
    """Write the last event anew with other files, as someone with access to the disk could."""
    last = commit or tip(world)
    parents = world.forge_git.text("rev-list", "--parents", "-n1", last).split()[1:]
    files = files_of(world, last)
    change(files)
    forged = world.forge_git.commit_files(None, files, "forged", world.who, parents)
    world.forge_git.run("update-ref", PULL, forged)


@pytest.fixture
def pull(world):
    return world.propose(requester="maya")


def refused(world, *codes):
    with pytest.raises(IntegrityFailure) as caught:
        world.forge().get(1)
    assert caught.value.code in codes
    return caught.value


def edit(files, name="event.json", **changes):
    files[name] = canonical_json(json.loads(files[name]) | changes)


def test_events_are_commits_with_signed_canonical_json(world, pull):
    world.review("dana", pull)
    files = files_of(world, tip(world))
    assert sorted(files) == ["approval.json", "approval.json.sig", "event.json", "event.json.sig"]
    assert json.loads(files["event.json"])["verdict"] == "approve"
    assert world.forge_git.rev(f"{PULL}~1^2") == pull.head


@pytest.mark.parametrize(
    "change", [{"requester": "noor"}, {"title": "Other"}, {"actor": "maya"}, {"at": "2026-01-01T00:00:00Z"}]
)
def test_an_event_that_was_edited_is_detected(world, pull, change):
    rewrite(world, lambda files: edit(files, **change))
    refused(world, "bad-signature")


def test_an_event_of_another_repository_is_detected(world, pull):
    rewrite(world, lambda files: edit(files, repository="elsewhere"))
    refused(world, "forged-event")


def test_an_approval_that_says_something_else_than_its_event_is_detected(world, pull):
    world.review("dana", pull, "reject")
    rewrite(world, lambda files: edit(files, verdict="approve"))
    refused(world, "bad-event")


def test_an_approval_that_was_edited_with_its_event_is_detected(world, pull):
    world.review("dana", pull, "reject")

    def flip(files):
        edit(files, verdict="approve")
        edit(files, "approval.json", verdict="approve")

    rewrite(world, flip)
    refused(world, "bad-signature")


def test_the_harness_cannot_sign_for_a_person(world, pull):
    statement = world.statement("dana", pull)
    forge = LocalForge(world.bare, world.git, ForgeIdentity("dana", world.keys / "smith"))
    with pytest.raises(IntegrityFailure) as caught:
        forge.review(1, world.sign(statement, "smith"))
    assert caught.value.code == "forged-event"


def test_somebody_unknown_cannot_open_a_pull_request_that_is_believed(world):
    with pytest.raises(IntegrityFailure) as caught:
        world.propose(actor="stranger")
    assert caught.value.code == "unknown-key"


def test_an_approval_cannot_be_moved_to_another_pull_request(world, pull):
    world.review("dana", pull)
    files = files_of(world, tip(world))
    world.propose({"evals/z.yaml": "z\n"}, branch="other")
    second = world.forge_git.rev("refs/modelsmith/pulls/2")
    forged = world.forge_git.commit_files(None, files, "forged", world.who, (second,))
    world.forge_git.run("update-ref", "refs/modelsmith/pulls/2", forged)
    with pytest.raises(IntegrityFailure, match="does not follow"):
        world.forge().get(2)
    assert world.forge().get(1).reviews


def test_a_pull_request_copied_to_another_number_is_detected(world, pull):
    world.forge_git.run("update-ref", "refs/modelsmith/pulls/5", tip(world))
    with pytest.raises(IntegrityFailure, match="holds the events of 1"):
        world.forge().get(5)


def test_a_dropped_event_leaves_an_earlier_state_but_not_a_middle_one(world, pull):
    world.review("dana", pull, "reject")
    world.review("noor", pull)
    files, opened = files_of(world, tip(world)), world.forge_git.rev(f"{PULL}~2")
    world.forge_git.run("update-ref", PULL, world.forge_git.commit_files(None, files, "cut", world.who, (opened,)))
    refused(world, "bad-event")


@pytest.mark.parametrize(
    "extra", [{"more.json": b"{}"}, {"event.json": b"not json"}, {"event.json.sig": "\u00e9".encode()}]
)
def test_odd_files_in_an_event_are_detected(world, pull, extra):
    rewrite(world, lambda files: files.update(extra))
    refused(world, "bad-event")


def test_a_number_that_json_readers_disagree_on_is_detected(world, pull):
    def enlarge(files):
        files["event.json"] = files["event.json"].replace(b'"pull":1', b'"pull":' + b"1" * 30)

    rewrite(world, enlarge)
    refused(world, "bad-event")


def test_an_event_whose_tree_is_damaged_is_detected(world, pull):
    literally = ("hash-object", "-w", "--literally", "--stdin", "-t")
    tree = world.forge_git.text(*literally, "tree", input=b"100644 event.json")
    ident = "smith <smith@example.org> 1767225600 +0000"
    commit = f"tree {tree}\nparent {tip(world)}\nauthor {ident}\ncommitter {ident}\n\nx\n"
    world.forge_git.update_ref(PULL, world.forge_git.text(*literally, "commit", input=commit.encode()), tip(world))
    refused(world, "damaged-object")


@pytest.mark.parametrize("part", ["commit", "tree", "body"])
def test_what_is_too_large_to_be_an_event_is_not_read(world, pull, part):
    """Else whoever may say one word makes everybody read megabytes at every list, for good."""
    second = world.propose({"evals/c.yaml": "3"}, branch="two")
    files = files_of(world, tip(world))
    if part == "tree":
        files |= {f"{number:0200}": b"" for number in range(100)}
    if part == "body":
        edit(files, body="A" * (LARGEST_EVENT + 1))
    message = "A" * (LARGEST_LINK + 1) if part == "commit" else "commented 1"
    large = world.git.commit_files(None, files, message, world.who, (tip(world),))
    if part != "body":
        with pytest.raises(ModelsmithError) as caught:
            push_judged(world, large)
        assert (caught.value.code, "allowed" in caught.value.message) == ("bad-event", True)
    world.push(f"{large}:{PULL}")
    assert refused(world, "bad-event")
    assert world.forge().list("open") == (second,)


@pytest.mark.parametrize("name", ["1\u00a02", "2\u2028", "x\u0085y"])
def test_a_ref_with_an_odd_name_hides_no_pull_request(world, pull, name):
    world.forge_git.run("update-ref", f"refs/modelsmith/pulls/{name}", world.main())
    assert [opened.number for opened in world.forge().list(None)] == [1]


def test_an_event_that_is_not_canonical_is_detected(world, pull):
    rewrite(world, lambda files: files.update({"event.json": files["event.json"] + b"\n"}))
    refused(world, "bad-event")


def test_a_merge_that_is_only_claimed_is_detected(world, pull):
    last = world.forge()._reader.log(tip(world))[-1]
    event = new_event(last, "merged", "smith", world.who.when, world.main(), merge=pull.head)
    forge = world.forge("smith")
    forge._push(forge._commit(event, None, (tip(world),)), PULL, tip(world))
    refused(world, "false-merge")


def test_killed_after_main_moved_it_reads_as_merged_and_a_rerun_logs_it(world, pull):
    pull = world.review("dana", pull)
    main, commit = world.main(), world.merge_commit(pull)
    ok, _ = world.push(f"{commit}:refs/heads/main")
    assert ok
    before = tip(world)
    merged = world.forge().get(1)
    assert (merged.status, merged.merge) == ("merged", commit)
    assert world.forge().merge(1, commit, main) == merged
    assert world.main() == commit
    assert world.forge_git.rev(f"{PULL}~1") == before
    assert json.loads(files_of(world, tip(world))["event.json"])["kind"] == "merged"
    after = tip(world)
    world.forge().merge(1, commit, main)
    assert tip(world) == after


def test_killed_between_closing_and_opening_a_rerun_opens_it_once(world, pull):
    world.forge().close(1, "superseded")
    for _ in range(2):
        assert world.propose({"evals/b.yaml": "new\n"}, requester="maya").number == 2


def test_a_review_after_the_merge_does_not_change_that_it_is_merged(world, pull):
    pull = world.review("dana", pull)
    world.push(f"{world.merge_commit(pull)}:refs/heads/main")
    assert world.forge().get(1).status == "merged"


@pytest.mark.parametrize(
    "edit_key",
    [
        lambda people: people["dana"].pop("keys"),
        lambda people: people["dana"]["keys"][0].update(valid_before="2026-01-01T00:00:00Z"),
        lambda people: people["dana"]["keys"][0].update(revoked_at="2026-01-01T00:00:00Z"),
    ],
    ids=["removed", "ended", "revoked"],
)
def test_an_approval_whose_key_is_no_good_any_more_stays_readable(world, pull, edit_key):
    approved = world.review("dana", pull)
    world.people(edit_key)
    (review,) = world.forge().get(1).reviews
    assert (review.actor, review.key) == ("dana", ssh.public_key(world.keys / "dana"))
    assert world.forge().list("open") == (approved,)


def test_a_signature_by_a_key_that_the_actor_never_held_is_a_forgery(world, pull):
    before = world.main()
    world.people(lambda people: people["dana"].pop("keys"))
    statement = world.statement("dana", pull)
    log = world.forge()._reader.log(tip(world))
    facts = {"verdict": "approve", "change": statement.change}
    event = new_event(log[-1], "reviewed", "dana", statement.at, before, **facts)
    forge = LocalForge(world.bare, world.git, ForgeIdentity("dana", world.keys / "noor"))
    forge._push(forge._commit(event, world.sign(statement, "noor"), (tip(world),)), PULL, tip(world))
    refused(world, "forged-event")


def test_a_proposal_of_a_revoked_key_is_not_adopted_but_proposed_again(world):
    first = world.propose(actor="noor", requester="maya")
    world.people(lambda people: people["noor"]["keys"][0].update(revoked_at="2026-01-01T00:00:00Z"))
    world.forge().fetch_into(world.git)
    second = world.propose(requester="maya")
    assert (second.number, second.preparer) == (2, "smith")
    assert world.forge().get(first.number).status == "open", "nobody closes another's"


def test_a_merged_pull_request_stays_readable_when_its_reviewer_leaves(world, pull):
    world.merge(world.review("dana", pull))
    world.people(lambda people: people["dana"].pop("keys"))
    assert world.forge().get(1).status == "merged"


def test_a_pull_request_that_cannot_be_read_hides_no_other(world, pull):
    """Whatever is wrong with it: a comment of somebody who never held the key, a tip that is not there any more."""
    second = world.propose({"evals/c.yaml": "3"}, branch="two")
    log = world.forge()._reader.log(tip(world))
    forge = LocalForge(world.bare, world.git, ForgeIdentity("dana", world.keys / "stranger"))
    event = new_event(log[-1], "commented", "dana", log[-1].event.at, world.main(), body="nice")
    forge._push(forge._commit(event, None, (tip(world),)), PULL, tip(world))
    tree = world.forge_git.text("rev-parse", f"{PULL}^{{tree}}")
    for code in ("unknown-key", "missing-object"):
        readable, unreadable = world.forge().survey("open")
        assert (readable, {number: error.code for number, error in unreadable.items()}) == ((second,), {1: code})
        assert world.forge().list("open") == (second,)
        (world.bare / "objects" / tree[:2] / tree[2:]).unlink(missing_ok=True)
    assert world.propose({"evals/d.yaml": "4"}, branch="three").number == 3


def test_a_rejection_is_heard_wherever_the_same_is_opened_again(world, pull):
    """Of a change: the same change. Of a promotion: the same record, whatever else lies beside it."""
    folder = "promotions/rtb/iter-001-00000001/01-candidate"
    promotion = world.propose({f"{folder}/record.json": "{}", f"{folder}/record.sigstore.json": "1"}, branch="promote")
    for rejected in (pull, promotion):
        world.review("dana", rejected)
        world.review("dana", rejected, "reject")
    world.forge().close(promotion.number, "no")
    again = world.propose(branch="again", requester="maya")
    other = world.propose({"evals/other.yaml": "x"}, branch="other", requester="maya")
    signed_again = {f"{folder}/record.json": "{}", f"{folder}/record.sigstore.json": "2"}
    promoted = world.propose(signed_again, branch="signed-again")
    written_again = world.propose({f"{folder}/record.json": "[]"}, branch="written-again")
    objections = {
        opened.number: [(item.pull, item.review.actor, item.review.verdict) for item in opened.elsewhere]
        for opened in world.forge().list("open")
    }
    assert objections == {
        pull.number: [],
        again.number: [(pull.number, "dana", "reject")],
        other.number: [],
        promoted.number: [(promotion.number, "dana", "reject")],
        written_again.number: [],
    }
    world.review("dana", pull, "withdraw")
    assert [item.review.verdict for item in world.forge().get(again.number).elsewhere] == ["reject", "withdraw"]


@pytest.mark.parametrize("asked_alone", [0, 1, 4])
def test_merged_and_open_are_told_apart_however_it_is_asked(world, pull, monkeypatch, asked_alone):
    """Of a few heads git is asked whether main contains them; of more, the merges of main are read."""
    world.merge(world.review("dana", pull))
    beside = world.propose({"evals/other.yaml": "x"}, branch="other", requester="maya")
    closed = world.propose({"evals/third.yaml": "y"}, branch="third", requester="maya")
    world.forge().close(closed.number, "no")
    monkeypatch.setattr("modelsmith.forges.reader._FEW", asked_alone)
    reader = Reader(world.forge_git)
    statuses = {number: reader.status(tip, reader.main()) for number, tip in reader.tips().items()}
    assert statuses == {pull.number: "merged", beside.number: "open", closed.number: "closed"}


def test_who_asks_about_an_open_proposal_reads_no_merges(world, pull, monkeypatch):
    """A push to main costs the same however many merges main holds."""
    reader = Reader(world.forge_git)
    monkeypatch.setattr(reader, "_merges", lambda main: pytest.fail("all merges of main were read"))
    tips, main = reader.tips(), reader.main()
    assert reader.status(tips[pull.number], main) == "open"
    assert reader.pull(pull.number, tips, main).status == "open"


def test_a_rewound_forge_is_not_fetched(world, pull):
    world.review("dana", pull)
    world.forge().fetch_into(world.git)
    world.forge_git.run("update-ref", PULL, f"{PULL}~1")
    with pytest.raises(IntegrityFailure) as caught:
        world.forge().fetch_into(world.git)
    assert caught.value.code == "rewound-forge"


def test_what_is_kept_of_logs_hides_no_rejection(world, pull, tmp_path):
    """A log that was read before is not read again unless it matters: nobody sees a difference."""
    world.review("dana", pull, "reject")
    world.propose({"evals/other.yaml": "x"}, branch="other", requester="maya")
    closed = world.propose({"evals/third.yaml": "y"}, branch="third", requester="maya")
    world.forge().close(closed.number, "no")
    again = world.propose(branch="again", requester="maya")

    def read_pulls(facts):
        reader = Reader(world.forge_git, facts)
        tips, main = reader.tips(), reader.main()
        pulls = {number: reader.pull(number, tips, main) for number in tips}
        return pulls, {number: reader.status(tip, main) for number, tip in tips.items()}

    for _ in range(2):
        facts = KeptFacts(tmp_path / "home", OUTLINES, "here")
        assert read_pulls(facts) == read_pulls(None)
        facts.save()
    assert [item.pull for item in read_pulls(facts)[0][again.number].elsewhere] == [pull.number]
    world.review("dana", pull, "withdraw")
    assert [item.review.verdict for item in read_pulls(facts)[0][again.number].elsewhere] == ["reject", "withdraw"]
    assert read_pulls(facts) == read_pulls(None)
