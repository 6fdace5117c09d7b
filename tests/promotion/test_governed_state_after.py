"""Main carried from commit to commit is main as it is read at each of them, whatever changed in between."""

from __future__ import annotations

import pytest

from modelsmith.governance import routing_chain as chains
from modelsmith.governance.routing import hold_of, incumbent, render_routing
from modelsmith.governance.routing_chain import routing_chain
from modelsmith.governance.states import record_folder
from modelsmith.promotion import kept_chains, recalled
from modelsmith.promotion.governed_state import governed_state_after, read_governed_state
from modelsmith.repository.kept_facts import GOVERNED, KeptFacts
from modelsmith.repository.load import load_cluster, load_eval_set
from modelsmith.repository.objects import ObjectReader
from modelsmith.schema.errors import IntegrityFailure, ModelsmithError

POLICY, PEOPLE = ".github/governance/policy.yaml", ".github/governance/people.yaml"
EDITED = (
    POLICY,
    PEOPLE,
    ".github/CODEOWNERS",
    ".github/governance/trust/harness.pem",
    "clusters/defaults.yaml",
    "clusters/rtb-pricing/cluster.yaml",
    "evals/adtech/rtb-root-cause/evalset.yaml",
    "README.md",
)


def everything(main):
    """All that a proposal is judged by."""
    cluster = load_cluster(main.tree, "rtb-pricing")
    governed = load_eval_set(main.tree, cluster.eval_set)
    rules = (main.policy, main.people, main.codeowners, main.trusted, main.histories)
    return main.tree.commit, main.tree.entries(), *rules, cluster, governed, governed.question()


def edit(repository, path, old=b"", new=b"# edited\n"):
    """The file with one piece of text replaced."""
    text = repository.main.tree.read(path)
    assert old in text
    return repository.commit({path: text.replace(old, new, 1)})


@pytest.fixture(scope="module")
def tips(repository):
    """Commits of a repository in which everything changes that main is made of."""
    changed = repository
    tips = [changed.tip]
    for path in EDITED:
        changed = edit(changed, path)
        tips.append(changed.tip)
    for number, events in ((1, 5), (2, 2)):
        for end in range(events):
            event = ("candidate", "eval-accepted", "artifact-exported", "customer-deployed", "production-validated")[
                end
            ]
            changed = changed.after(event, number=number)
            tips += [changed.git.text("rev-parse", f"{changed.tip}^"), changed.tip]
    changed = edit(changed, POLICY, b"gate: oncall-sre", b"gate: platform")
    tips.append(changed.tip)
    changed = edit(
        changed, "clusters/rtb-pricing/cluster.yaml", b"cluster: rtb-pricing", b"# new\ncluster: rtb-pricing"
    )
    tips.append(changed.tip)
    changed = changed.after("artifact-exported", number=2)
    return [*tips, changed.tip]


def test_it_equals_what_is_read_anew_at_every_commit(repository, tips):
    with ObjectReader(repository.git.path) as reader:
        main = read_governed_state(reader, tips[0])
        for tip in tips[1:]:
            main = governed_state_after(main, tip)
            assert everything(main) == everything(read_governed_state(repository.git, tip))


def test_it_equals_what_is_read_anew_over_any_distance_and_backwards(repository, tips):
    tips = tips[::6]
    with ObjectReader(repository.git.path) as reader:
        for tip in tips:
            for other in tips:
                main = governed_state_after(read_governed_state(reader, tip), other)
                assert everything(main) == everything(read_governed_state(repository.git, other))


def broken(repository):
    """Commits that cannot be read, by what is wrong."""
    history = repository.main.histories.find(repository.draft().specialist)
    folders = [record_folder(record) for record in history.records]
    record = repository.main.tree.read(f"{folders[1]}/record.json")
    other = folders[0].replace("rtb-pricing", "other")
    return {
        "a record removed": repository.commit({f"{folders[1]}/record.json": None}),
        "a record that is not canonical": repository.commit({f"{folders[1]}/record.json": record + b"\n"}),
        "a record in another folder": repository.commit({f"{folders[1].replace('02', '07')}/record.json": record}),
        "a folder with no meaning": repository.commit({f"{folders[1]}x/record.json": record}),
        "a cluster that copies a life": repository.commit({f"{other}/record.json": record}),
        "a policy that forbids what happened": edit(
            repository, POLICY, b"event: eval-accepted, from: [candidate]", b"event: eval-accepted, from: [deprecated]"
        ),
        "a policy that does not parse": repository.commit({POLICY: b"transitions: ["}),
        "people gone": repository.commit({PEOPLE: None}),
        "a trust root gone": repository.commit({".github/governance/trust/harness.pem": None}),
    }


@pytest.fixture(scope="module")
def lived(repository):
    return repository.after("candidate", "eval-accepted", "artifact-exported").after("candidate", number=2)


def outcome(read_state):
    try:
        read_state()
    except ModelsmithError as error:
        return type(error), error.code
    return None


def test_it_fails_where_reading_anew_fails_and_for_the_same_reason(lived):
    for mistake, world in broken(lived).items():
        anew = outcome(lambda tip=world.tip: read_governed_state(lived.git, tip))
        carried = outcome(lambda tip=world.tip: governed_state_after(lived.main, tip))
        assert (mistake, carried) == (mistake, anew)
        assert anew is not None, mistake


def test_a_policy_that_forbids_what_happened_is_found_in_old_histories(lived):
    refused = broken(lived)["a policy that forbids what happened"]
    assert outcome(lambda: governed_state_after(lived.main, refused.tip))[1] == "forbidden-transition"


def all_of(read_state):
    """What reading gives, with the times and numbers of receipts and every record; or why it fails."""
    try:
        main = read_state()
        lives = {
            name: (*history.records, history.artifact, history.iteration)
            for name, history in main.histories.by_specialist.items()
        }
        facts = [
            (history.state, history.digests, history.is_export) for history in main.histories.by_specialist.values()
        ]
        rendered = render_routing("rtb-pricing", main.histories.of_cluster("rtb-pricing"), 0.5)
        return main.signed, lives, [*lives], facts, rendered
    except ModelsmithError as error:
        return type(error), error.code, error.message


def test_what_is_kept_of_folders_changes_nothing_that_is_read(repository, tips, lived, tmp_path):
    bad = [world.tip for world in broken(lived).values()]
    for _ in range(2):
        for tip in (*tips, *bad, *tips[::-1]):
            with ObjectReader(repository.git.path) as reader:
                facts = KeptFacts(tmp_path, GOVERNED, "here")
                anew = all_of(lambda tip=tip: read_governed_state(repository.git, tip))
                assert all_of(lambda tip=tip, facts=facts, git=reader: read_governed_state(git, tip, facts)) == anew
                facts.save()


def test_folders_that_are_kept_are_not_read_again(repository, tips, tmp_path):
    facts = KeptFacts(tmp_path, GOVERNED, "here")
    for _ in range(2):
        with ObjectReader(repository.git.path) as reader:
            main = read_governed_state(reader, tips[-1], facts)
            assert main.signed.pulls
            facts.save()
            facts = KeptFacts(tmp_path, GOVERNED, "here")
    assert all(history.outline for history in main.histories.by_specialist.values())


def test_records_that_are_not_held_any_more_are_read_again(repository, tips, monkeypatch):
    """Of histories that are carried, the records of few are held; they can be asked for when the reader has ended."""
    monkeypatch.setattr(recalled, "_MOST_HELD", 1)
    with ObjectReader(repository.git.path) as reader:
        main = read_governed_state(reader, tips[0])
        for tip in tips[1:]:
            main = governed_state_after(main, tip)
        anew = all_of(lambda: read_governed_state(repository.git, tips[-1]))
        assert len(main.histories.by_specialist) > 1
        assert all_of(lambda: main) == anew
        assert sum(history.records._read is not None for history in main.histories.by_specialist.values()) == 1
    assert all_of(lambda: main) == anew


def test_a_record_that_is_not_what_it_was_is_refused(repository, tips, monkeypatch):
    monkeypatch.setattr(recalled, "_MOST_HELD", 0)
    with ObjectReader(repository.git.path) as reader:
        history = next(iter(read_governed_state(reader, tips[-1]).histories.by_specialist.values()))
        contents = reader.read_blobs(history.records._blobs)
        monkeypatch.setattr(reader, "read_blobs", lambda blobs: {blob: contents[blob] + b"\n" for blob in blobs})
        with pytest.raises(IntegrityFailure, match="not what it was"):
            _ = history.records[0]


def routed(git, tip, kept=None):
    """All that routing says of a commit's cluster, as a process says it that has not folded its chain before."""
    chains._folded.clear()
    histories = read_governed_state(git, tip, kept).histories.of_cluster("rtb-pricing")
    try:
        chain = routing_chain(histories)
        return (
            chain,
            *(of("rtb-pricing", histories) for of in (hold_of, incumbent)),
            render_routing("rtb-pricing", histories, 0.1),
        )
    except ModelsmithError as error:
        return error.code


def served(here):
    """Commits of which each changes what is served, one after the other."""
    tips = [here.tip]
    for number, last in ((1, 5), (2, 5), (3, 4)):
        for event in (
            "candidate",
            "eval-accepted",
            "artifact-exported",
            "customer-deployed",
            "production-validated",
        )[:last]:
            here = here.after(event, number=number)
            tips.append(here.tip)
    return here, tips


@pytest.fixture(scope="module")
def long(repository):
    return served(repository)


@pytest.mark.parametrize("far", [0, 2, 99])
def test_a_chain_that_was_kept_is_the_chain_folded_anew(long, tmp_path, monkeypatch, far):
    """Wherever it was kept: before, after, and beside what is read; near it and far from it."""
    here, tips = long
    monkeypatch.setattr(kept_chains, "FEW", 0)
    monkeypatch.setattr(kept_chains, "_FAR", far)
    edited = [there.tip for there in broken(here).values()]
    with ObjectReader(here.git.path) as reader:
        for tip in (*tips, *tips[::-4], *edited, *tips[::3], tips[-1]):
            kept = KeptFacts(tmp_path, GOVERNED, "here")
            assert outcome(lambda at=tip, facts=kept: routed(reader, at, facts)) == outcome(
                lambda at=tip: routed(reader, at)
            )
            kept.save()


def test_what_was_merged_since_follows_the_chain_that_was_kept(long, tmp_path, monkeypatch):
    """Nothing else is folded, and few histories are looked at."""
    here, tips = long
    monkeypatch.setattr(kept_chains, "FEW", 0)
    with ObjectReader(here.git.path) as reader:
        for tip in tips[-6:]:
            kept = KeptFacts(tmp_path, GOVERNED, "here")
            routed(reader, tip, kept)
            kept.save()
            with monkeypatch.context() as nothing:
                nothing.setattr(chains, "_fold", None)
                routed(reader, tip, KeptFacts(tmp_path, GOVERNED, "here"))


def test_a_chain_that_was_kept_with_another_specialist_s_links_is_no_chain(long, tmp_path, monkeypatch):
    """Its last digest is then not the one that what was merged since follows."""
    here, tips = long
    monkeypatch.setattr(kept_chains, "FEW", 0)
    with ObjectReader(here.git.path) as reader:
        kept = KeptFacts(tmp_path, GOVERNED, "here")
        routed(reader, tips[4], kept)
        (key,) = (key for key in kept._new if key.startswith("chain of "))
        folder = kept.get(key)[0]
        later = KeptFacts(tmp_path / "other", GOVERNED, "here")
        routed(reader, tips[9], later)
        kept.add(key, [folder, later.get(key)[1]])
        kept.save()
        again = KeptFacts(tmp_path, GOVERNED, "here")
        assert routed(reader, tips[-1], again) == routed(reader, tips[-1])
