"""What every forge must do. A further forge adds a world to the fixture and passes the same tests."""

import threading

import pytest

from modelsmith.schema.errors import GateNotCleared, InfrastructureFailure, InvalidInput


@pytest.fixture
def forge_world(request, world):
    """A forge with people; a further kind is a further value of the parameter. The hook is the one behind SSH."""
    kind = request.param
    if kind == "github":
        return world.at_github(request.getfixturevalue("github"))
    if kind == "local":
        return world
    world.install()
    return world.elsewhere()


def pytest_generate_tests(metafunc):
    if "forge_world" in metafunc.fixturenames:
        metafunc.parametrize("forge_world", ["local", "over-ssh", "github"], indirect=True)


def with_receipts(world, pull, merge):
    """The commit that the merge needs on top: receipts, when an owner approved."""
    approvers = sorted({review.actor for review in pull.reviews if review.verdict == "approve"})
    if not approvers:
        return merge
    return world.commit({f"receipts/{pull.number}.txt": ",".join(approvers)}, merge)


def approved(world, **proposal):
    pull = world.propose(**({"requester": "maya"} | proposal))
    return world.review("dana", pull)


def merge(world, pull):
    main = world.main()
    tip = with_receipts(world, pull, world.merge_commit(pull, main))
    return world.forge().merge(pull.number, tip, main)


def test_a_proposal_becomes_an_open_pull_request(forge_world):
    proposal = forge_world.proposal()
    pull = forge_world.forge("smith").open(proposal)
    assert (pull.status, pull.branch, pull.title, pull.body) == ("open", "change", "A change", "Why.")
    assert (pull.head, pull.base, pull.requester, pull.preparer) == (proposal.head, proposal.base, "dana", "smith")
    assert pull.reviews == ()
    assert forge_world.forge("maya").get(pull.number) == pull


def test_pull_requests_are_numbered_and_listed_by_status(forge_world):
    first = forge_world.propose(branch="one")
    second = forge_world.propose({"evals/c.yaml": "3\n"}, branch="two")
    forge_world.forge().close(first.number, "not wanted")
    forge = forge_world.forge()
    assert first.number < second.number
    assert [pull.number for pull in forge.list()] == [first.number, second.number]
    assert [pull.number for pull in forge.list("open")] == [second.number]
    assert [pull.number for pull in forge.list("closed")] == [first.number]
    assert forge.list("merged") == ()


def test_an_unknown_pull_request_is_named(forge_world):
    with pytest.raises(InvalidInput) as caught:
        forge_world.forge().get(7)
    assert caught.value.code == "unknown-pull"


def test_an_identical_proposal_is_adopted_not_opened_again(forge_world):
    first = forge_world.propose()
    again = forge_world.propose(title="Other words")
    assert again == first
    assert len(forge_world.forge().list()) == 1


def test_an_identical_proposal_is_adopted_after_main_moved_elsewhere(forge_world):
    first = forge_world.propose()
    merge(forge_world, approved(forge_world, files={"evals/other.yaml": "x\n"}, branch="other"))
    assert forge_world.propose().number == first.number


def test_another_change_on_the_same_branch_supersedes_the_open_one(forge_world):
    first = forge_world.propose()
    second = forge_world.propose({"evals/b.yaml": "changed\n"})
    forge = forge_world.forge()
    assert first.number < second.number
    assert [pull.status for pull in forge.list()] == ["closed", "open"]


def test_the_same_change_for_another_requester_is_another_proposal(forge_world):
    first = forge_world.propose(requester="dana")
    second = forge_world.propose(requester="maya")
    assert first.number != second.number
    assert second.requester == "maya"


def test_a_proposal_without_a_change_is_refused(forge_world):
    main = forge_world.main()
    with pytest.raises(InvalidInput) as caught:
        forge_world.forge().open(forge_world.proposal(head=main))
    assert caught.value.code == "empty-change"


def test_a_proposal_from_an_unrelated_history_is_refused(forge_world):
    alien = forge_world.git.commit_files(None, {"a": b"b"}, "alien", forge_world.who)
    for other in ({"base": alien}, {"head": alien}):
        with pytest.raises(InvalidInput) as caught:
            forge_world.forge().open(forge_world.proposal(**other))
        assert caught.value.code == "unrelated-base"


def test_a_proposal_that_conflicts_with_main_is_refused(forge_world):
    base = forge_world.main()
    merge(forge_world, approved(forge_world, files={"evals/a.yaml": "theirs\n"}, branch="other"))
    with pytest.raises(GateNotCleared) as caught:
        forge_world.propose({"evals/a.yaml": "ours\n"}, base=base)
    assert caught.value.code == "conflict"


def test_a_review_is_kept_with_its_proof(forge_world):
    pull = forge_world.propose(requester="maya")
    proof = forge_world.sign(forge_world.statement("dana", pull, reason="Clear."))
    reviewed = forge_world.forge("dana").review(pull.number, proof)
    (review,) = reviewed.reviews
    assert (review.actor, review.verdict, review.reason) == ("dana", "approve", "Clear.")
    assert review.change == forge_world.change_of(pull).digest()
    assert review.proof == proof


def test_reviews_are_kept_in_order_and_the_same_one_only_once(forge_world):
    pull = forge_world.propose(requester="maya")
    proof = forge_world.sign(forge_world.statement("dana", pull))
    for _ in range(2):
        forge_world.forge("dana").review(pull.number, proof)
    forge_world.review("dana", pull, "withdraw")
    reviewed = forge_world.review("noor", pull, "reject")
    assert [(r.actor, r.verdict) for r in reviewed.reviews] == [
        ("dana", "approve"),
        ("dana", "withdraw"),
        ("noor", "reject"),
    ]


def test_nobody_hands_in_somebody_elses_verdict(forge_world):
    pull = forge_world.propose()
    proof = forge_world.sign(forge_world.statement("dana", pull))
    with pytest.raises(InvalidInput) as caught:
        forge_world.forge("smith").review(pull.number, proof)
    assert caught.value.code == "not-your-verdict"


@pytest.mark.parametrize("other", [{"pull": 77}, {"repository": "elsewhere"}])
def test_a_verdict_about_something_else_is_refused(forge_world, other):
    pull = forge_world.propose()
    proof = forge_world.sign(forge_world.statement("dana", pull, **other))
    with pytest.raises(InvalidInput) as caught:
        forge_world.forge("dana").review(pull.number, proof)
    assert caught.value.code == "wrong-approval"


def test_a_closed_pull_request_takes_no_review_and_no_merge(forge_world):
    pull = approved(forge_world)
    commit = forge_world.merge_commit(pull)
    forge_world.forge().close(pull.number, "no")
    with pytest.raises(InvalidInput) as caught:
        forge_world.review("noor", pull)
    assert caught.value.code == "not-open"
    with pytest.raises(InvalidInput) as caught:
        forge_world.forge().merge(pull.number, commit, forge_world.main())
    assert caught.value.code == "not-open"


def test_closing_twice_changes_nothing(forge_world):
    pull = forge_world.propose()
    first = forge_world.forge().close(pull.number, "no")
    assert forge_world.forge().close(pull.number, "again") == first
    assert first.status == "closed"


def test_after_closing_the_same_change_can_be_proposed_again(forge_world):
    first = forge_world.propose()
    forge_world.forge().close(first.number, "no")
    second = forge_world.propose()
    assert (second.status, second.head) == ("open", forge_world.forge().get(second.number).head)
    assert second.number > first.number


def test_a_merge_moves_main_and_says_so(forge_world):
    merged = merge(forge_world, approved(forge_world))
    assert merged.status == "merged"
    assert forge_world.git.is_ancestor(merged.merge, forge_world.main())
    assert forge_world.forge().main() == forge_world.main()
    assert [(pull.number, pull.merge) for pull in forge_world.forge().list("merged")] == [(merged.number, merged.merge)]
    assert "evals/b.yaml" in forge_world.forge_git.list_tree("main")


def test_a_merge_of_a_stale_base_keeps_what_main_gained(forge_world):
    first = approved(forge_world, files={"evals/one.yaml": "1\n"}, branch="one")
    two = approved(forge_world, files={"evals/two.yaml": "2\n"}, branch="two")
    merge(forge_world, first)
    merge(forge_world, two)
    assert {"evals/one.yaml", "evals/two.yaml"} <= set(forge_world.forge_git.list_tree("main"))


def test_merging_again_returns_what_is(forge_world):
    pull = approved(forge_world)
    main = forge_world.main()
    tip = with_receipts(forge_world, pull, forge_world.merge_commit(pull, main))
    first = forge_world.forge().merge(pull.number, tip, main)
    assert forge_world.forge().merge(pull.number, tip, main) == first


def test_a_merged_pull_request_cannot_be_closed(forge_world):
    pull = merge(forge_world, approved(forge_world))
    with pytest.raises(InvalidInput) as caught:
        forge_world.forge().close(pull.number, "regret")
    assert caught.value.code == "not-open"


def test_a_merge_built_on_an_older_main_is_refused(forge_world):
    first = approved(forge_world, files={"evals/one.yaml": "1\n"}, branch="one")
    two = approved(forge_world, files={"evals/two.yaml": "2\n"}, branch="two")
    main = forge_world.main()
    late = with_receipts(forge_world, two, forge_world.merge_commit(two, main))
    merge(forge_world, first)
    with pytest.raises(InfrastructureFailure) as caught:
        forge_world.forge().merge(two.number, late, main)
    assert caught.value.code == "ref-moved"
    assert forge_world.forge().get(two.number).status == "open"


def test_only_a_merge_of_this_head_moves_main(forge_world):
    first = approved(forge_world, files={"evals/one.yaml": "1\n"}, branch="one")
    two = approved(forge_world, files={"evals/two.yaml": "2\n"}, branch="two")
    main = forge_world.main()
    for wrong in (forge_world.merge_commit(two), first.head, forge_world.commit({"x": "y"})):
        with pytest.raises(InvalidInput) as caught:
            forge_world.forge().merge(first.number, wrong, main)
        assert caught.value.code == "not-a-merge"
    assert forge_world.main() == main


def test_fetching_brings_main_and_proposals_and_touches_no_branch(forge_world):
    pull = forge_world.propose()
    clone = forge_world.another_clone("other")
    assert forge_world.forge().fetch_into(clone) == forge_world.main()
    assert clone.list_tree(pull.head)
    assert clone.text("for-each-ref", "refs/heads") == ""


def at_once(*calls):
    """Run at the same moment; results or errors, in order."""
    barrier = threading.Barrier(len(calls))
    results = [None] * len(calls)

    def run(index, call):
        barrier.wait()
        try:
            results[index] = call()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_two_proposals_at_once_get_two_numbers(forge_world):
    calls = []
    for name in ("one", "two", "three"):
        clone = forge_world.another_clone(name)
        forge = forge_world.forge(clone=clone)
        forge.fetch_into(clone)
        head = forge_world.commit({f"evals/{name}.yaml": "1\n"}, git=clone)
        proposal = forge_world.proposal(head=head, branch=name)
        calls.append(lambda forge=forge, proposal=proposal: forge.open(proposal))
    pulls = at_once(*calls)
    assert len({pull.number for pull in pulls}) == 3
    assert {pull.branch for pull in forge_world.forge().list("open")} == {"one", "two", "three"}


def test_the_same_proposal_twice_at_once_is_one_pull_request(forge_world):
    proposal = forge_world.proposal()
    pulls = at_once(*[lambda: forge_world.forge().open(proposal)] * 3)
    assert len({pull.number for pull in pulls}) == 1
    assert len(forge_world.forge().list()) == 1


def test_of_two_merges_at_once_one_wins(forge_world):
    calls, main = [], forge_world.main()
    for name in ("one", "two"):
        pull = approved(forge_world, files={f"evals/{name}.yaml": "1\n"}, branch=name)
        tip = with_receipts(forge_world, pull, forge_world.merge_commit(pull, main))
        calls.append(lambda pull=pull, tip=tip: forge_world.forge().merge(pull.number, tip, main))
    results = at_once(*calls)
    lost = [result for result in results if isinstance(result, Exception)]
    assert [error.code for error in lost] == ["ref-moved"]
    assert len(forge_world.forge().list("merged")) == 1
    assert len(forge_world.forge().list("open")) == 1


def test_two_people_reviewing_at_once_are_both_heard(forge_world):
    pull = forge_world.propose(requester="maya")
    at_once(lambda: forge_world.review("dana", pull), lambda: forge_world.review("noor", pull, "reject"))
    assert {(r.actor, r.verdict) for r in forge_world.forge().get(pull.number).reviews} == {
        ("dana", "approve"),
        ("noor", "reject"),
    }
